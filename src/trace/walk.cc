#include "trace/walk.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/text.h"

namespace tqfpm::trace {

namespace {

// The same since 7.4. zend_execute_data:
constexpr std::size_t kOpline = 0;
constexpr std::size_t kFunction = 24;
constexpr std::size_t kCallInfo = 40; // This.u1.type_info: the type of $this, and the kind of call
constexpr std::size_t kPrevious = 48;
constexpr std::size_t kExecuteData = 56;
constexpr std::uint32_t kTopCode = 3U << 16;
constexpr std::uint8_t kIsObject = 8;
// zend_function and zend_class_entry:
constexpr std::size_t kFunctionName = 8;
constexpr std::size_t kScope = 16;
constexpr std::size_t kFunctionHead = 24;
constexpr std::uint8_t kInternalFunction = 1;
constexpr std::uint8_t kUserFunction = 2;
constexpr std::uint8_t kEvalCode = 4;
constexpr Address kClassName = 8;
// zend_op:
constexpr std::uint64_t kOpcodeSize = 32;
constexpr Address kOpcodeLine = 24;
// zend_string: type, length and bytes.
constexpr std::size_t kStringType = 4;
constexpr std::size_t kStringLength = 16;
constexpr std::size_t kStringBytes = 24;
constexpr std::uint8_t kIsString = 6;

constexpr std::size_t kMostName = 512;
constexpr std::size_t kMostPath = 4096;
constexpr std::size_t kMostDepth = 4096;
constexpr std::size_t kMostSteps = 16384; // frames without a function are none of the depth

class Walk {
public:
  Walk(Memory &memory, const Layout &layout, std::size_t depth) : memory_(memory), layout_(layout), depth_(depth) {}
  Trace from(Address first);

private:
  // False: the end, or nothing sensible.
  bool step(Address address, Address &previous);
  std::string name_of(const unsigned char *function, bool has_object);
  void place(Address function, Address opline);
  std::uint32_t line_of(Address function, Address opline);
  std::optional<std::string> string(Address address, std::size_t most);
  bool trouble(const char *what) {
    trace_.trouble = what;
    return false;
  }

  Memory &memory_;
  const Layout &layout_;
  std::size_t depth_;
  std::size_t placed_ = 0; // frames before this one have their called_at
  Trace trace_;
};

std::optional<std::string> Walk::string(Address address, std::size_t most) {
  std::array<unsigned char, kStringBytes> head{};
  if (address == 0 || address % 8 != 0 || !memory_.read(address, head.data(), head.size()) ||
      (head[kStringType] & 15U) != kIsString)
    return std::nullopt;
  const auto length = value_at<std::uint64_t>(head.data(), kStringLength);
  std::string bytes(std::min<std::uint64_t>(length, most), 0);
  if (!memory_.read(address + kStringBytes, bytes.data(), bytes.size()))
    return std::nullopt;
  bytes.resize(std::min(bytes.find('\0'), bytes.size())); // behind it is where an anonymous class was declared
  if (bytes.empty())                                      // nothing in PHP has such a name
    return std::nullopt;
  std::string text;
  append_safe(text, bytes);
  return text;
}

std::string Walk::name_of(const unsigned char *function, bool has_object) {
  const auto name = value_at<Address>(function, kFunctionName);
  if (name == 0)
    return "[INCLUDE_OR_EVAL]";
  std::string result;
  if (const auto scope = value_at<Address>(function, kScope); scope != 0) {
    const auto class_name = read_value<Address>(memory_, scope + kClassName);
    const auto text = class_name ? string(*class_name, kMostName) : std::nullopt;
    result = text.value_or("???") + (has_object ? "->" : "::");
  }
  return result + string(name, kMostName).value_or("???");
}

// The line is believed only if the instruction is one of the function's own.
std::uint32_t Walk::line_of(Address function, Address opline) {
  const auto count = read_value<std::uint32_t>(memory_, function + layout_.last_opcode);
  const auto opcodes = read_value<Address>(memory_, function + layout_.opcodes);
  if (!count || !opcodes || opline < *opcodes || (opline - *opcodes) % kOpcodeSize != 0 ||
      (opline - *opcodes) / kOpcodeSize >= *count)
    return 0;
  return read_value<std::uint32_t>(memory_, opline + kOpcodeLine).value_or(0);
}

// This is the PHP code that all frames without a place have been called from.
void Walk::place(Address function, Address opline) {
  if (placed_ == trace_.frames.size() && trace_.running)
    return;
  const auto filename = read_value<Address>(memory_, function + layout_.filename);
  const auto file = filename ? string(*filename, kMostPath) : std::nullopt;
  const Position position{file.value_or("???"), line_of(function, opline)};
  for (; placed_ < trace_.frames.size(); ++placed_)
    trace_.frames[placed_].called_at = position;
  if (!trace_.running)
    trace_.running = position;
}

bool Walk::step(Address address, Address &previous) {
  std::array<unsigned char, kExecuteData> data{};
  std::array<unsigned char, kFunctionHead> function{};
  if (address % 8 != 0 || !memory_.read(address, data.data(), data.size()))
    return trouble("a call cannot be read");
  previous = value_at<Address>(data.data(), kPrevious);
  const auto where = value_at<Address>(data.data(), kFunction);
  if (where == 0)
    return previous != 0; // PHP puts such ones between calls from inside of it, and below generators
  if (where % 8 != 0 || !memory_.read(where, function.data(), function.size()))
    return trouble("a function cannot be read");
  const std::uint8_t type = function[0];
  if (type != kInternalFunction && type != kUserFunction && type != kEvalCode)
    return trouble("there is something that is no function");
  if (type != kInternalFunction)
    place(where, value_at<Address>(data.data(), kOpline));
  if (trace_.frames.size() >= depth_)
    return placed_ < depth_ && previous != 0;
  const auto call = value_at<std::uint32_t>(data.data(), kCallInfo);
  const bool named = value_at<Address>(function.data(), kFunctionName) != 0;
  // The script itself is no call; neither is what PHP puts below a fiber's code.
  const bool called = named || (type != kInternalFunction && ((call & kTopCode) != kTopCode || previous != 0));
  if (called)
    trace_.frames.push_back(Frame{address, name_of(function.data(), (call & 0xffU) == kIsObject), std::nullopt});
  return previous != 0;
}

Trace Walk::from(Address first) {
  Address address = first;
  for (std::size_t i = 0; i < kMostSteps; ++i) {
    Address previous = 0;
    if (!step(address, previous))
      return std::move(trace_);
    address = previous;
  }
  (void)trouble("the chain of calls does not end");
  return std::move(trace_);
}

} // namespace

Trace walk(Memory &memory, const Engine &engine, std::size_t depth) {
  constexpr int kTries = 8; // PHP may have returned from a call while that was read
  Trace trace;
  for (int i = 0; i < kTries; ++i) {
    const auto current = read_value<Address>(memory, engine.globals + engine.layout->current);
    if (!current) {
      trace.trouble = "its memory cannot be read";
      return trace;
    }
    if (*current == 0) {
      trace.trouble = "no PHP code is running";
      return trace;
    }
    trace = Walk(memory, *engine.layout, std::min(depth, kMostDepth)).from(*current);
    if (trace.trouble.empty())
      break;
  }
  return trace;
}

std::string text_of(Trace &trace, std::size_t room) {
  std::string text;
  const auto add = [&](const std::string &line) {
    if (text.size() + line.size() > room)
      return false;
    text += line;
    return true;
  };
  if (trace.running && !add(fmt::format("running = {}:{}\n", trace.running->file, trace.running->line)))
    return text;
  for (const Frame &each : trace.frames) {
    const std::string place =
        each.called_at ? fmt::format("{}:{}", each.called_at->file, each.called_at->line) : "unknown:0";
    if (!add(fmt::format("[0x{:016x}] {}() {}\n", each.address, each.function, place))) {
      trace.trouble = "there is no room for more";
      break;
    }
  }
  return text;
}

} // namespace tqfpm::trace
