// Backtraces: fake memories of each PHP version, hostile ones, and the image of a real php-cgi.
#include <elf.h>
#include <gtest/gtest.h>

#include <array>
#include <fstream>
#include <map>
#include <random>

#include "base/text.h"
#include "trace/elf.h"
#include "trace/engine.h"
#include "trace/walk.h"

namespace tqfpm::trace {
namespace {

// Memory in pieces; what is not there cannot be read.
class Fake : public Memory {
public:
  bool read(Address address, void *buffer, std::size_t length) override {
    ++reads;
    const auto after = pieces_.upper_bound(address);
    if (after == pieces_.begin())
      return false;
    const auto &[start, bytes] = *std::prev(after);
    if (address - start > bytes.size() || bytes.size() - (address - start) < length)
      return false;
    memcpy(buffer, bytes.data() + (address - start), length);
    return true;
  }
  // Room of zero bytes, at an address of its own.
  Address room(std::size_t size) {
    const Address address = next_;
    next_ += (size + 0xfff) / 0x1000 * 0x1000 + 0x1000;
    pieces_[address] = std::string(size, 0);
    return address;
  }
  void place(Address address, std::string bytes) { pieces_[address] = std::move(bytes); }
  template <typename T> void put(Address address, T value) {
    auto &[start, bytes] = *std::prev(pieces_.upper_bound(address));
    ASSERT_LE(address - start + sizeof value, bytes.size());
    memcpy(bytes.data() + (address - start), &value, sizeof value);
  }
  Address text(const std::string &value) {
    const Address address = room(value.size() + 1);
    pieces_[address].replace(0, value.size(), value);
    return address;
  }
  std::map<Address, std::string> &pieces() { return pieces_; }
  std::size_t reads = 0;

private:
  std::map<Address, std::string> pieces_;
  Address next_ = 0x7f0000000000;
};

// PHP's structures as each version lays them out.
class FakePhp : public Fake {
public:
  explicit FakePhp(const Layout &layout) : layout_(layout), globals_(room(2048)) {
    put<std::uint8_t>(globals_ + 8, 1);
    put<std::uint8_t>(globals_ + 24, 15);
    put<std::uint64_t>(globals_ + layout.current - 32, 0x1000);
    put<std::uint64_t>(globals_ + layout.current - 24, 0x2000);
    put<std::uint64_t>(globals_ + layout.current - 8, 256 * 1024);
  }

  Address string(const std::string &value) {
    const Address address = room(24 + value.size() + 1);
    put<std::uint32_t>(address + 4, 6);
    put<std::uint64_t>(address + 16, value.size());
    pieces()[address].replace(24, value.size(), value);
    return address;
  }
  Address class_named(const std::string &name) {
    const Address address = room(512);
    put<Address>(address + 8, string(name));
    return address;
  }
  Address internal(const std::string &name, Address scope = 0) {
    const Address address = room(128);
    put<std::uint8_t>(address, 1);
    put<Address>(address + 8, name.empty() ? 0 : string(name));
    put<Address>(address + 16, scope);
    return address;
  }
  // A function with ten opcodes, on lines 100 to 109.
  Address user(const std::string &name, const std::string &file, Address scope = 0, std::uint8_t type = 2) {
    const Address address = room(256);
    const Address opcodes = room(320);
    put<std::uint8_t>(address, type);
    put<Address>(address + 8, name.empty() ? 0 : string(name));
    put<Address>(address + 16, scope);
    put<std::uint32_t>(address + layout_.last_opcode, 10);
    put<Address>(address + layout_.opcodes, opcodes);
    put<Address>(address + layout_.filename, string(file));
    for (std::uint32_t i = 0; i < 10; ++i)
      put<std::uint32_t>(opcodes + i * 32 + 24, 100 + i);
    opcodes_[address] = opcodes;
    return address;
  }
  // Calls it from what was called last; `at`: which opcode it is at.
  Address call(Address function, std::uint32_t at = 0, std::uint32_t info = 0) {
    const Address address = room(80);
    put<Address>(address, opcodes_.count(function) > 0 ? opcodes_[function] + at * 32 : 0);
    put<Address>(address + 24, function);
    put<std::uint32_t>(address + 40, info);
    put<Address>(address + 48, current_);
    current_ = address;
    put<Address>(globals_ + layout_.current, address);
    return address;
  }
  Trace walk(std::size_t depth = 20) { return trace::walk(*this, Engine{&layout_, globals_}, depth); }
  [[nodiscard]] Address globals() const { return globals_; }
  [[nodiscard]] const Layout &layout() const { return layout_; }

private:
  const Layout &layout_;
  Address globals_;
  Address current_ = 0;
  std::map<Address, Address> opcodes_;
};

const std::string kUnknown(3, '?');
constexpr std::uint32_t kTop = 3U << 16;
constexpr std::uint32_t kObject = 8;

std::string lines(Trace trace) {
  std::string text = text_of(trace, 65536);
  for (std::size_t at = 0; (at = text.find("[0x", at)) != std::string::npos;)
    text.erase(at, text.find(' ', at) - at + 1);
  return text + trace.trouble;
}

class EachVersion : public testing::TestWithParam<const char *> {
protected:
  static const Layout &layout() {
    for (const Layout &each : layouts()) {
      if (std::string_view(each.version) == GetParam())
        return each;
    }
    return layouts().front();
  }
  FakePhp php{layout()};
};
INSTANTIATE_TEST_SUITE_P(Trace, EachVersion, testing::Values("7.4", "8.0", "8.1", "8.2", "8.3", "8.4", "8.5"),
                         [](const auto &each) { return std::string(each.param).replace(1, 1, "_"); });

TEST_P(EachVersion, CallsAsPhpFpmWritesThem) {
  EXPECT_STREQ(php.layout().version, GetParam());
  const Address some = php.class_named("Name\\Some");
  php.call(php.user("", "/www/index.php"), 1, kTop);
  php.call(php.user("", "/www/lib.php"), 2, 1U << 16);
  php.call(php.user("run", "/www/lib.php", some), 3, kObject);
  php.call(php.internal("array_map"), 0);
  php.call(0); // PHP's own
  php.call(php.user("{closure}", "/www/lib.php", some), 4);
  php.call(php.user("make", "/www/make.php", php.class_named(std::string("class@anonymous\0/www/x.php:3", 28))), 5);
  php.call(php.internal("query", php.class_named("PDO")), 0, kObject);
  EXPECT_EQ(lines(php.walk()), "running = /www/make.php:105\n"
                               "PDO->query() /www/make.php:105\n"
                               "class@anonymous::make() /www/lib.php:104\n"
                               "Name\\Some::{closure}() /www/lib.php:103\n"
                               "array_map() /www/lib.php:103\n"
                               "Name\\Some->run() /www/lib.php:102\n"
                               "[INCLUDE_OR_EVAL]() /www/index.php:101\n");
}

TEST_P(EachVersion, DepthEndsWithAPlace) {
  php.call(php.user("", "/a.php"), 1, kTop);
  php.call(php.user("outer", "/a.php"), 2);
  for (int i = 0; i < 50; ++i)
    php.call(php.internal("call_user_func"));
  EXPECT_EQ(lines(php.walk(1)), "running = /a.php:102\ncall_user_func() /a.php:102\n");
  EXPECT_EQ(php.walk(50).frames.size(), 50U);
  EXPECT_EQ(php.walk(50).frames.back().called_at->line, 102U);
  EXPECT_EQ(php.walk(99).frames.back().function, "outer");
  EXPECT_EQ(php.walk(99).frames.back().called_at->line, 101U);
}

TEST_P(EachVersion, WhatMakesNoSenseIsNotBelieved) {
  const Address script = php.user("", "/a.php");
  php.call(script, 1, kTop);
  const Address function = php.user("f", "/a.php");
  const Address frame = php.call(function, 10); // one behind the last opcode
  EXPECT_EQ(lines(php.walk()), "running = /a.php:0\nf() /a.php:101\n");
  php.put<Address>(frame, 0xdeadbeef);
  EXPECT_EQ(lines(php.walk()), "running = /a.php:0\nf() /a.php:101\n");
  php.put<Address>(function + 8, 0x4141414141414140); // name
  EXPECT_EQ(lines(php.walk()), "running = /a.php:0\n" + kUnknown + "() /a.php:101\n");
  php.put<Address>(function + 8, php.string(""));
  EXPECT_EQ(lines(php.walk()), "running = /a.php:0\n" + kUnknown + "() /a.php:101\n");
  php.put<Address>(function + 16, function); // scope
  EXPECT_EQ(lines(php.walk()), "running = /a.php:0\n" + kUnknown + "::" + kUnknown + "() /a.php:101\n");
  php.put<Address>(function + php.layout().filename, 3);
  EXPECT_EQ(lines(php.walk()), "running = " + kUnknown + ":0\n" + kUnknown + "::" + kUnknown + "() /a.php:101\n");
  php.put<std::uint8_t>(function, 7); // type
  EXPECT_EQ(lines(php.walk()), "there is something that is no function");
  php.put<Address>(frame + 24, 1);
  EXPECT_EQ(lines(php.walk()), "a function cannot be read");
  php.put<Address>(php.globals() + php.layout().current, 12);
  EXPECT_EQ(lines(php.walk()), "a call cannot be read");
  php.put<Address>(php.globals() + php.layout().current, 0);
  EXPECT_EQ(lines(php.walk()), "no PHP code is running");
}

TEST_P(EachVersion, LoopsAndLengthsHaveLimits) {
  const Address first = php.call(php.internal("a"));
  const Address second = php.call(php.internal("b"));
  php.put<Address>(first + 48, second);
  Trace trace = php.walk(1000000);
  EXPECT_EQ(trace.trouble, "the chain of calls does not end");
  EXPECT_LT(php.reads, 1000000U);
  EXPECT_LE(trace.frames.size(), 4096U);
  EXPECT_LE(text_of(trace, 1000).size(), 1000U);
  EXPECT_EQ(trace.trouble, "there is no room for more");
  php.put<Address>(first + 24, 0); // a loop without a function
  php.put<Address>(second + 24, 0);
  EXPECT_EQ(lines(php.walk(5)), "the chain of calls does not end");
}

TEST(Trace, NamesAreCutAndCannotForgeLines) {
  FakePhp php(layouts()[3]);
  php.call(php.user("", "/a\n[0x0] b"), 0, kTop);
  const std::string name(100000, 'x');
  php.call(php.internal(name, php.class_named("A\n\x7f")));
  Trace trace = php.walk();
  EXPECT_EQ(trace.frames.at(0).function, "A\\x0a\\x7f::" + std::string(512, 'x'));
  EXPECT_EQ(trace.running->file, "/a\\x0a[0x0] b");
  const Address huge = php.string("abc");
  php.put<std::uint64_t>(huge + 16, UINT64_MAX);
  const Address function = php.internal("f");
  php.put<Address>(function + 8, huge);
  php.call(function);
  EXPECT_EQ(php.walk().frames.at(0).function, kUnknown);
}

// --- finding PHP ----------------------------------------------------------------------------------------------------

// A program with PHP's two symbols and a module registry.
class FakeProgram : public FakePhp {
public:
  FakeProgram(const Layout &layout, const std::string &version, const std::string &build, bool gnu = true)
      : FakePhp(layout) {
    const Address other = module("date", version, build);
    const Address core = module("Core", version, build);
    const Address buckets = room(96);
    put<Address>(buckets, other);
    put<Address>(buckets + 64, core); // one between them has been removed
    registry_ = room(56);
    put<Address>(registry_ + 16, buckets);
    put<std::uint32_t>(registry_ + 24, 3);
    image(gnu);
  }
  Result<Engine> find() {
    const Address bases[] = {0x10000, base};
    return find_engine(*this, bases);
  }
  Address base = 0;
  Address size_of_globals = 0;

private:
  Address module(const std::string &name, const std::string &version, const std::string &build) {
    const Address address = room(168);
    put<std::uint16_t>(address, 168);
    put<Address>(address + 32, text(name));
    put<Address>(address + 88, text(version));
    put<Address>(address + 160, text(build));
    return address;
  }
  void image(bool gnu) {
    base = room(4096);
    const std::string names = std::string("\0module_registry\0executor_globals\0", 34);
    Elf64_Ehdr header{};
    memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_type = ET_DYN;
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = 2;
    header.e_phoff = 64;
    put(base, header);
    put(base + 64, Elf64_Phdr{PT_LOAD, 0, 0, 0, 0, 4096, 4096, 0});
    put(base + 120, Elf64_Phdr{PT_DYNAMIC, 0, 512, 512, 0, 256, 256, 0});
    const std::array<Elf64_Dyn, 5> dynamic = {
        {{DT_STRTAB, {1024}},
         {DT_SYMTAB, {base + 2048}}, // as glibc leaves it; the others as musl does
         {DT_STRSZ, {names.size()}},
         {gnu ? DT_GNU_HASH : DT_HASH, {3072}},
         {DT_NULL, {0}}}};
    put(base + 512, dynamic);
    for (std::size_t i = 0; i < names.size(); ++i)
      put(base + 1024 + i, names[i]);
    put(base + 2048 + 24, Elf64_Sym{1, 0, 0, 5, registry_ - base, 56});
    size_of_globals = base + 2048 + 48 + 16;
    put(base + 2048 + 48, Elf64_Sym{17, 0, 0, 5, globals() - base, 2048});
    if (gnu) { // one bucket; hashes with the lowest bit as the end of the chain
      const std::array<std::uint32_t, 9> table = {
          1, 1, 1, 0, 0, 0, 1, hash("module_registry") & ~1U, hash("executor_globals") | 1U};
      put(base + 3072, table);
    } else {
      const std::array<std::uint32_t, 6> table = {1, 3, 2, 0, 0, 1};
      put(base + 3072, table);
    }
  }
  static std::uint32_t hash(std::string_view name) {
    std::uint32_t value = 5381;
    for (const char c : name)
      value = value * 33 + static_cast<unsigned char>(c);
    return value;
  }
  Address registry_ = 0;
};

std::string build_of(const Layout &layout) {
  return "API" + std::to_string(layout.api) + ",NTS";
}

TEST(Engine, IsFoundForEachVersion) {
  for (const Layout &each : layouts()) {
    for (const bool gnu : {true, false}) {
      FakeProgram program(each, std::string(each.version) + ".9", build_of(each), gnu);
      const auto engine = program.find();
      ASSERT_TRUE(engine.ok()) << engine.error().message;
      EXPECT_EQ(engine.value().layout, &each);
      EXPECT_EQ(engine.value().globals, program.globals());
    }
  }
}

std::string why_not(FakeProgram program) {
  const auto engine = program.find();
  return engine.ok() ? "" : engine.error().message;
}

TEST(Engine, SaysWhyItIsNotBelieved) {
  const Layout &layout = layouts()[3];
  EXPECT_EQ(why_not(FakeProgram(layout, "8.6.1", "API20990101,NTS")), "PHP 8.6.1 (API20990101,NTS) is not known");
  EXPECT_EQ(why_not(FakeProgram(layout, "8.20.1", build_of(layout))), "PHP 8.20.1 (API20220829,NTS) is not known");
  EXPECT_EQ(why_not(FakeProgram(layout, "8.2.1", "API20220829,TS")),
            "PHP 8.2.1 is built as API20220829,TS, and only API20220829,NTS is known");
  FakeProgram program(layout, "8.2.1", build_of(layout));
  const auto reason = [&program] { return why_not(program); };
  const std::string unlike = "the state of PHP 8.2.1 does not look as expected";
  program.put<std::uint64_t>(program.globals() + layout.current - 8, 5000);
  EXPECT_EQ(reason(), unlike);
  program.put<std::uint64_t>(program.globals() + layout.current - 8, 16384); // a fiber's
  EXPECT_EQ(reason(), "");
  program.put<std::uint8_t>(program.globals() + 24, 0);
  EXPECT_EQ(reason(), unlike);
  program.put<std::uint8_t>(program.globals() + 24, 15);
  program.put<std::uint64_t>(program.size_of_globals, layout.current + 7);
  EXPECT_EQ(reason(), unlike);
  program.put<std::uint16_t>(program.size_of_globals - 10, 0); // its section: undefined here
  EXPECT_EQ(reason(), "PHP 8.2.1 does not export executor_globals");
  program.put<char>(program.base + 1024 + 1, 'x');
  EXPECT_EQ(reason(), "it does not export PHP's symbols");
  program.put<char>(program.base, 'x');
  EXPECT_EQ(reason(), "its memory cannot be read");
}

// Loads a file as the kernel does, at `bias`.
Address load(Fake &memory, const std::string &bytes, Address bias) {
  Elf64_Ehdr header{};
  memcpy(&header, bytes.data(), sizeof header);
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment{};
    memcpy(&segment, bytes.data() + header.e_phoff + i * sizeof segment, sizeof segment);
    if (segment.p_type != PT_LOAD)
      continue;
    std::string content = bytes.substr(segment.p_offset, segment.p_filesz);
    content.resize(segment.p_memsz);
    memory.place(bias + segment.p_vaddr, std::move(content));
  }
  return bias;
}

std::string file(const char *path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

TEST(Elf, SymbolsOfARealPhp) {
  const std::string bytes = file("/usr/bin/php-cgi");
  if (bytes.empty())
    GTEST_SKIP() << "no php-cgi";
  Fake memory;
  const auto image = Image::at(memory, load(memory, bytes, 0x550000000000));
  ASSERT_TRUE(image);
  const auto globals = image->find(memory, "executor_globals");
  ASSERT_TRUE(globals);
  EXPECT_GT(globals->address, 0x550000000000U);
  EXPECT_GT(globals->size, 1000U); // 1800 in PHP 8.2
  EXPECT_EQ(image->find(memory, "module_registry")->size, 56U);
  EXPECT_FALSE(image->find(memory, "malloc")); // of libc's
  EXPECT_FALSE(image->find(memory, "executor_global"));
  EXPECT_FALSE(image->find(memory, ""));
}

TEST(Elf, BrokenImagesDoNoHarm) {
  const std::string bytes = file("/proc/self/exe").substr(0, 1U << 20);
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    std::string broken = bytes;
    for (int i = 0; i < 200; ++i) // the headers most of all
      broken[random() % (i % 2 == 0 ? 1024 : broken.size())] = static_cast<char>(random());
    memcpy(broken.data(), bytes.data(), 56); // else it would mostly be no ELF at all
    Fake memory;
    memory.place(0x400000, broken);
    if (const auto image = Image::at(memory, 0x400000))
      (void)image->find(memory, "module_registry");
    EXPECT_LT(memory.reads, 200000U);
  }
  Fake memory;
  memory.place(0x1000, std::string(4096, '\x7f'));
  EXPECT_FALSE(Image::at(memory, 0x1000));
  EXPECT_FALSE(Image::at(memory, 0));
}

} // namespace
} // namespace tqfpm::trace
