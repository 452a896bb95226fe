#include "trace/engine.h"

#include <array>
#include <vector>

#include "base/text.h"
#include "trace/elf.h"

namespace tqfpm::trace {

namespace {

// From the headers of each version: 7.4 (Debian 7.4.33), 8.2 (8.2.36) and 8.4 (8.4.27) measured with offsetof() where
// PHP's own extensions are compiled; 8.0, 8.1, 8.3 and 8.5 read from Zend/zend_globals.h and Zend/zend_compile.h and
// compared with what other profilers use. `current` moves in 8.5, where a fatal error keeps its backtrace in front of
// it.
constexpr Layout kLayouts[] = {
    {"7.4", 20190902, 488, 60, 64, 136},  {"8.0", 20200930, 488, 68, 72, 144}, {"8.1", 20210902, 488, 68, 72, 144},
    {"8.2", 20220829, 488, 80, 88, 152},  {"8.3", 20230831, 488, 76, 80, 144}, {"8.4", 20240924, 488, 96, 104, 168},
    {"8.5", 20250925, 512, 96, 104, 168},
};

// The same since 7.4: HashTable, Bucket, zend_module_entry.
constexpr Address kTableData = 16; // HashTable.arData; 8 more: nNumUsed
constexpr std::size_t kBucketSize = 32;
constexpr std::uint32_t kMostModules = 256;
constexpr std::size_t kModuleSize = 168;
constexpr std::size_t kModuleName = 32;
constexpr std::size_t kModuleVersion = 88;
constexpr std::size_t kModuleBuild = 160;

// zend_executor_globals: two constant values at its beginning, the VM's stack in front of current_execute_data.
constexpr std::size_t kNullType = 8;
constexpr std::size_t kErrorType = 24;
constexpr std::uint8_t kIsNull = 1;
constexpr std::uint8_t kIsError = 15;
constexpr std::size_t kStackTop = 32; // before `current`
constexpr std::size_t kStackEnd = 24;
constexpr std::size_t kStackPage = 8;

struct Build {
  std::string version; // "8.2.36"
  std::string id;      // "API20220829,NTS"
};

// PHP's own module "Core" says what this PHP is.
std::optional<Build> read_build(Memory &memory, Address registry) {
  const auto data = read_value<Address>(memory, registry + kTableData);
  const auto used = read_value<std::uint32_t>(memory, registry + kTableData + sizeof(Address));
  if (!data || !used)
    return std::nullopt;
  for (std::uint32_t i = 0; i < *used && i < kMostModules; ++i) {
    const auto entry = read_value<Address>(memory, *data + i * kBucketSize);
    std::array<unsigned char, kModuleSize> module{};
    if (!entry || !memory.read(*entry, module.data(), module.size()) ||
        value_at<std::uint16_t>(module.data(), 0) != kModuleSize ||
        read_c_string(memory, value_at<Address>(module.data(), kModuleName), 8) != "Core")
      continue;
    const auto version = read_c_string(memory, value_at<Address>(module.data(), kModuleVersion), 64);
    const auto id = read_c_string(memory, value_at<Address>(module.data(), kModuleBuild), 64);
    if (!version || !id)
      return std::nullopt;
    Build build;
    append_safe(build.version, *version);
    append_safe(build.id, *id);
    return build;
  }
  return std::nullopt;
}

Result<const Layout *> choose(const Build &build) {
  for (const Layout &each : kLayouts) {
    if (!build.version.starts_with(std::string(each.version) + "."))
      continue;
    const std::string id = "API" + std::to_string(each.api) + ",NTS";
    if (build.id == id)
      return &each;
    return Error{"PHP " + build.version + " is built as " + build.id + ", and only " + id + " is known"};
  }
  return Error{"PHP " + build.version + " (" + build.id + ") is not known"};
}

bool looks_right(Memory &memory, const Layout &layout, const Symbol &globals) {
  if (globals.size < layout.current + sizeof(Address))
    return false;
  std::vector<unsigned char> bytes(layout.current + sizeof(Address));
  if (!memory.read(globals.address, bytes.data(), bytes.size()))
    return false;
  const auto before = [&](std::size_t distance) {
    return value_at<std::uint64_t>(bytes.data(), layout.current - distance);
  };
  const std::uint64_t page = before(kStackPage);
  return bytes[kNullType] == kIsNull && bytes[kErrorType] == kIsError && page >= 4096 && page <= (1U << 30) &&
         (page & (page - 1)) == 0 && before(kStackTop) != 0 && before(kStackTop) <= before(kStackEnd);
}

// Does the state look as this version's does? The end of the structure depends on how PHP was configured, so its size
// only has to be large enough. PHP may just be changing the stack's bounds: then the next look is right.
bool plausible(Memory &memory, const Layout &layout, const Symbol &globals) {
  constexpr int kTries = 3;
  for (int i = 0; i < kTries; ++i) {
    if (looks_right(memory, layout, globals))
      return true;
  }
  return false;
}

} // namespace

std::span<const Layout> layouts() {
  return kLayouts;
}

Result<Engine> find_engine(Memory &memory, std::span<const Address> bases) {
  bool readable = false;
  for (const Address base : bases) {
    const auto image = Image::at(memory, base);
    readable = readable || image.has_value();
    const auto registry = image ? image->find(memory, "module_registry") : std::nullopt;
    if (!registry)
      continue;
    const auto build = read_build(memory, registry->address);
    if (!build)
      return Error{"it does not say which PHP it is"};
    const auto layout = choose(*build);
    if (!layout.ok())
      return layout.error();
    const auto globals = image->find(memory, "executor_globals");
    if (!globals)
      return Error{"PHP " + build->version + " does not export executor_globals"};
    if (!plausible(memory, *layout.value(), *globals))
      return Error{"the state of PHP " + build->version + " does not look as expected"};
    return Engine{layout.value(), globals->address};
  }
  if (!readable)
    return Error{"its memory cannot be read", kUnreadable};
  return Error{"it does not export PHP's symbols"};
}

} // namespace tqfpm::trace
