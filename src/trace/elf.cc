#include "trace/elf.h"

#include <elf.h>

#include <array>
#include <vector>

namespace tqfpm::trace {

namespace {

constexpr std::size_t kMostSegments = 64;
constexpr std::uint64_t kMostDynamic = 512; // entries
constexpr std::uint32_t kMostChain = 65536; // symbols of one hash value

bool is_ours(const Elf64_Ehdr &header) {
  return memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 && header.e_ident[EI_CLASS] == ELFCLASS64 &&
         header.e_ident[EI_DATA] == ELFDATA2LSB && (header.e_type == ET_EXEC || header.e_type == ET_DYN) &&
         header.e_phentsize == sizeof(Elf64_Phdr) && header.e_phnum > 0 && header.e_phnum <= kMostSegments;
}

std::uint32_t gnu_hash(std::string_view name) {
  std::uint32_t hash = 5381;
  for (const char c : name)
    hash = hash * 33 + static_cast<unsigned char>(c);
  return hash;
}

std::uint32_t sysv_hash(std::string_view name) {
  std::uint32_t hash = 0;
  for (const char c : name) {
    hash = (hash << 4) + static_cast<unsigned char>(c);
    const std::uint32_t high = hash & 0xf0000000U;
    hash = (hash ^ high >> 24) & ~high;
  }
  return hash;
}

} // namespace

std::optional<Image> Image::at(Memory &memory, Address base) {
  const auto header = read_value<Elf64_Ehdr>(memory, base);
  if (!header || !is_ours(*header))
    return std::nullopt;
  std::vector<Elf64_Phdr> segments(header->e_phnum);
  if (!memory.read(base + header->e_phoff, segments.data(), segments.size() * sizeof(Elf64_Phdr)))
    return std::nullopt;
  Image image;
  const Elf64_Phdr *dynamic = nullptr;
  bool loaded = false;
  for (const Elf64_Phdr &each : segments) {
    if (each.p_type == PT_LOAD && each.p_offset == 0 && !loaded) {
      loaded = true;
      image.bias_ = base - each.p_vaddr;
    } else if (each.p_type == PT_DYNAMIC) {
      dynamic = &each;
    }
  }
  if (!loaded || dynamic == nullptr || !image.read_dynamic(memory, image.bias_ + dynamic->p_vaddr, dynamic->p_memsz))
    return std::nullopt;
  return image;
}

bool Image::read_dynamic(Memory &memory, Address address, std::uint64_t length) {
  for (std::uint64_t i = 0; i < length / sizeof(Elf64_Dyn) && i < kMostDynamic; ++i) {
    const auto entry = read_value<Elf64_Dyn>(memory, address + i * sizeof(Elf64_Dyn));
    if (!entry || entry->d_tag == DT_NULL)
      break;
    // glibc has made these absolute, other loaders leave them as they are in the file.
    const Address value = entry->d_un.d_ptr < bias_ ? entry->d_un.d_ptr + bias_ : entry->d_un.d_ptr;
    if (entry->d_tag == DT_SYMTAB)
      symbols_ = value;
    else if (entry->d_tag == DT_STRTAB)
      strings_ = value;
    else if (entry->d_tag == DT_STRSZ)
      strings_size_ = entry->d_un.d_val;
    else if (entry->d_tag == DT_GNU_HASH)
      gnu_hash_ = value;
    else if (entry->d_tag == DT_HASH)
      sysv_hash_ = value;
  }
  return symbols_ != 0 && strings_ != 0 && (gnu_hash_ != 0 || sysv_hash_ != 0);
}

std::optional<Symbol> Image::symbol(Memory &memory, std::uint32_t index, std::string_view name) const {
  const auto entry = read_value<Elf64_Sym>(memory, symbols_ + index * sizeof(Elf64_Sym));
  if (!entry || entry->st_shndx == SHN_UNDEF || entry->st_name >= strings_size_)
    return std::nullopt;
  std::string found(name.size() + 1, 0);
  if (!memory.read(strings_ + entry->st_name, found.data(), found.size()) || found.back() != 0 ||
      found.compare(0, name.size(), name) != 0)
    return std::nullopt;
  return Symbol{bias_ + entry->st_value, entry->st_size};
}

// The bloom filter is passed over: it only saves time.
std::optional<Symbol> Image::find_gnu(Memory &memory, std::string_view name) const {
  const auto head = read_value<std::array<std::uint32_t, 4>>(memory, gnu_hash_);
  if (!head)
    return std::nullopt;
  const auto [buckets, first, bloom, shift] = *head;
  if (buckets == 0)
    return std::nullopt;
  const Address table = gnu_hash_ + sizeof *head + std::uint64_t{bloom} * sizeof(std::uint64_t);
  const Address chains = table + std::uint64_t{buckets} * sizeof(std::uint32_t);
  const std::uint32_t hash = gnu_hash(name);
  const auto start = read_value<std::uint32_t>(memory, table + hash % buckets * sizeof(std::uint32_t));
  if (!start || *start < first)
    return std::nullopt;
  for (std::uint32_t i = 0; i < kMostChain; ++i) {
    const std::uint32_t index = *start + i;
    const auto link = read_value<std::uint32_t>(memory, chains + std::uint64_t{index - first} * sizeof(std::uint32_t));
    if (!link)
      return std::nullopt;
    if ((*link | 1U) == (hash | 1U)) {
      if (const auto found = symbol(memory, index, name))
        return found;
    }
    if ((*link & 1U) != 0)
      return std::nullopt;
  }
  return std::nullopt;
}

std::optional<Symbol> Image::find_sysv(Memory &memory, std::string_view name) const {
  const auto head = read_value<std::array<std::uint32_t, 2>>(memory, sysv_hash_);
  if (!head || (*head)[0] == 0)
    return std::nullopt;
  const std::uint32_t buckets = (*head)[0];
  const Address table = sysv_hash_ + sizeof *head;
  const Address chains = table + std::uint64_t{buckets} * sizeof(std::uint32_t);
  auto index = read_value<std::uint32_t>(memory, table + sysv_hash(name) % buckets * sizeof(std::uint32_t));
  for (std::uint32_t i = 0; i < kMostChain && index && *index != STN_UNDEF; ++i) {
    if (const auto found = symbol(memory, *index, name))
      return found;
    index = read_value<std::uint32_t>(memory, chains + std::uint64_t{*index} * sizeof(std::uint32_t));
  }
  return std::nullopt;
}

std::optional<Symbol> Image::find(Memory &memory, std::string_view name) const {
  return gnu_hash_ != 0 ? find_gnu(memory, name) : find_sysv(memory, name);
}

} // namespace tqfpm::trace
