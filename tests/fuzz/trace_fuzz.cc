// Backtraces of a process whose memory says anything: what is read is bounded, and what comes out is text for a log.
#include <elf.h>

#include <array>
#include <cstring>
#include <vector>

#include "base/proc_text.h"
#include "input.h"
#include "trace/elf.h"
#include "trace/engine.h"
#include "trace/walk.h"

namespace {

using namespace tqfpm;
using trace::Address;

// Every address leads somewhere into the bytes of the input, so that what points anywhere is followed; a part of them
// cannot be read.
class Everywhere : public trace::Memory {
public:
  Everywhere(std::string bytes, unsigned hole) : bytes_(std::move(bytes)), hole_(hole) {}
  bool read(Address address, void *buffer, std::size_t length) override {
    ++reads;
    FUZZ_CHECK(length <= 65536);
    if (bytes_.empty() || (hole_ != 0 && address / 64 % 256 == hole_))
      return false;
    auto *out = static_cast<char *>(buffer);
    for (std::size_t at = address % bytes_.size(); length > 0; at = 0) {
      const std::size_t piece = std::min(length, bytes_.size() - at);
      memcpy(out, bytes_.data() + at, piece);
      out += piece;
      length -= piece;
    }
    return true;
  }
  std::size_t reads = 0;

private:
  std::string bytes_;
  unsigned hole_;
};

// Enough of an ELF header for the rest to be looked at.
std::string with_header(std::string bytes) {
  Elf64_Ehdr header{};
  memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_type = ET_DYN;
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = 2;
  header.e_phoff = sizeof header;
  if (bytes.size() >= sizeof header)
    memcpy(bytes.data(), &header, sizeof header);
  return bytes;
}

void check_text(std::string_view text) {
  for (const char c : text)
    FUZZ_CHECK(static_cast<unsigned char>(c) >= 0x20 || c == '\t');
}

void check_walk(trace::Memory &memory, std::size_t layout, std::size_t depth, std::size_t room) {
  const trace::Engine engine{&trace::layouts()[layout], 0};
  trace::Trace found = trace::walk(memory, engine, depth);
  FUZZ_CHECK(found.frames.size() <= depth);
  for (const trace::Frame &each : found.frames) {
    FUZZ_CHECK(!each.function.empty() && each.function.size() < 8192);
    check_text(each.function);
    if (each.called_at)
      check_text(each.called_at->file);
  }
  const std::string text = trace::text_of(found, room);
  FUZZ_CHECK(text.size() <= room && (text.empty() || text.back() == '\n'));
}

void check_proc(std::string_view text) {
  FUZZ_CHECK(image_bases(text).size() <= 1024);
  (void)memory_of_statm(text, 4096);
  (void)memory_of_rollup(text);
  (void)peak_of_status(text);
  (void)cpu_of_stat(text);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  fuzz::Input input(data, size);
  const unsigned kind = input.byte();
  const unsigned hole = input.byte();
  const std::size_t layout = input.below(trace::layouts().size());
  const std::size_t depth = input.below(64);
  const std::size_t room = input.below(4096);
  std::string bytes(input.rest());
  if (kind % 4 == 0)
    check_proc(bytes);
  Everywhere memory(kind % 4 == 1 ? with_header(std::move(bytes)) : std::move(bytes), hole);
  if (kind % 4 == 2) {
    check_walk(memory, layout, depth, room);
  } else {
    const std::array<Address, 2> bases = {0, 64};
    const auto engine = trace::find_engine(memory, bases);
    if (!engine.ok()) {
      FUZZ_CHECK(!engine.error().message.empty());
      check_text(engine.error().message);
    }
  }
  FUZZ_CHECK(memory.reads < 4'000'000);
  return 0;
}
