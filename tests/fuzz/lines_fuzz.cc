// LineSplitter: the same lines however the text is cut, nothing lost but the marks that end lines.
#include <vector>

#include "base/line_splitter.h"
#include "input.h"
#include "linear.h"

namespace {

using namespace tqfpm;
using namespace std::string_view_literals;

constexpr std::string_view kMark = "\0fscf\0"sv;

struct Split {
  std::vector<std::string> lines;
  std::string all;
};

// Cut into pieces of `step` bytes.
Split split(std::string_view text, std::size_t room, std::size_t step) {
  Split result;
  LineSplitter splitter;
  const auto on_line = [&](const std::string &line) {
    FUZZ_CHECK(line.size() <= room);
    result.lines.push_back(line);
    result.all += line;
  };
  for (std::size_t at = 0; at < text.size(); at += step)
    splitter.feed(text.substr(at, step), room, on_line);
  splitter.flush(room, on_line);
  return result;
}

// The text without what ends lines.
std::string bare(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const bool mark = text.starts_with(kMark);
    if (!mark && text.front() != '\n')
      out += text.front();
    text.remove_prefix(mark ? kMark.size() : 1);
  }
  return out;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  fuzz::Input input(data, size);
  const std::size_t room = 1 + input.below(256) % 200;
  const std::size_t step = 1 + input.below(16);
  const std::string_view text = input.rest();
  const Split whole = split(text, room, std::max<std::size_t>(text.size(), 1));
  const Split cut = split(text, room, step);
  const Split bytes = split(text, room, 1);
  FUZZ_CHECK(whole.all == bare(text));
  FUZZ_CHECK(whole.lines == cut.lines);
  FUZZ_CHECK(whole.lines == bytes.lines);
  if (fuzz::now_and_then(text))
    fuzz::check_linear(text, 4000, [step](const std::string &longer) { (void)split(longer, longer.size(), step); });
  return 0;
}
