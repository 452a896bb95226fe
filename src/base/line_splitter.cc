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

// Each byte is looked at once and nothing is moved but what stays: the work grows with the length alone.
void LineSplitter::feed(std::string_view data, std::size_t room, const OnLine &on_line) {
  partial_.append(data);
  const std::string_view all = partial_;
  const std::size_t safe = possible_mark(all);
  std::size_t begin = 0; // of the line at hand
  std::size_t newline = all.find('\n', scanned_);
  std::size_t mark = all.find(kFlushMark, scanned_);
  while (true) {
    const std::size_t end = std::min(newline, mark);
    if (end != std::string_view::npos && end - begin <= room) {
      if (end > begin || end == newline)
        on_line(partial_.substr(begin, end - begin));
      begin = end + (end == newline ? 1 : kFlushMark.size());
    } else if (safe > begin && safe - begin > room) {
      on_line(partial_.substr(begin, room));
      begin += room;
    } else {
      break;
    }
    if (newline < begin)
      newline = all.find('\n', begin);
    if (mark < begin)
      mark = all.find(kFlushMark, begin);
  }
  scanned_ = std::max(safe, begin) - begin;
  partial_.erase(0, begin);
}

void LineSplitter::flush(std::size_t room, const OnLine &on_line) {
  for (std::size_t at = 0; at < partial_.size(); at += room)
    on_line(partial_.substr(at, room));
  partial_.clear();
  scanned_ = 0;
}

} // namespace tqfpm
