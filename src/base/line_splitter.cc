#include "base/line_splitter.h"

#include <algorithm>

namespace tqfpm {

namespace {

using namespace std::string_view_literals;
constexpr std::string_view kFlushMark = "\0fscf\0"sv;

// Where a flush mark may have begun whose rest has not come yet; the length if nowhere.
std::size_t possible_mark(std::string_view text) {
  for (std::size_t length = std::min(text.size(), kFlushMark.size() - 1); length > 0; --length) {
    if (text.ends_with(kFlushMark.substr(0, length)))
      return text.size() - length;
  }
  return text.size();
}

} // namespace

void LineSplitter::feed(std::string_view data, std::size_t room, const OnLine &on_line) {
  partial_.append(data);
  while (true) {
    const std::size_t newline = partial_.find('\n', scanned_);
    const std::size_t mark = partial_.find(kFlushMark, scanned_);
    const std::size_t end = std::min(newline, mark);
    if (end <= room) {
      if (end > 0 || end == newline)
        on_line(partial_.substr(0, end));
      partial_.erase(0, end + (end == newline ? 1 : kFlushMark.size()));
    } else if (possible_mark(partial_) > room) {
      on_line(partial_.substr(0, room));
      partial_.erase(0, room);
    } else {
      scanned_ = possible_mark(partial_);
      return;
    }
    scanned_ = 0;
  }
}

void LineSplitter::flush(std::size_t room, const OnLine &on_line) {
  for (std::size_t at = 0; at < partial_.size(); at += room)
    on_line(partial_.substr(at, room));
  partial_.clear();
  scanned_ = 0;
}

} // namespace tqfpm
