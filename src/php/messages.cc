#include "php/messages.h"

#include <algorithm>

#include "fcgi/format.h"
#include "fcgi/writer.h"

namespace tqfpm::php {

namespace {
constexpr std::string_view kWords = "PHP message: ";
constexpr std::string_view kCut = "...";
} // namespace

bool continues_message(std::string_view line) {
  const bool frame = line.size() > 1 && line[0] == '#' && line[1] >= '0' && line[1] <= '9';
  return frame || line.empty() || line.front() == ' ' || line.front() == '\t' || line.starts_with("Stack trace:") ||
         line.starts_with("Next ");
}

void PhpMessages::line(std::string_view text, std::string &out, const OnLine &on_line) {
  const bool first = !any_ || !continues_message(text);
  if (!first && cut_)
    return;
  if (first) {
    out += any_ ? "; " : "";
    any_ = true;
    used_ = 0;
    cut_ = false;
  }
  std::string whole(first ? kWords : std::string_view());
  whole += text;
  const std::size_t before = used_ + (first ? 0 : 1); // a newline in front
  const std::size_t room = longest_ > before ? longest_ - before : 0;
  if (whole.size() > room) {
    whole.resize(room > kCut.size() ? room - kCut.size() : 0);
    whole += kCut;
    cut_ = true;
  }
  used_ = before + whole.size();
  out += first ? "" : "\n";
  out += whole;
  on_line(whole, first);
}

std::string PhpMessages::feed(std::string_view content, const OnLine &on_line) {
  std::string out;
  while (!content.empty()) {
    const std::size_t newline = content.find('\n');
    const bool ends = newline != std::string_view::npos;
    const std::string_view piece = content.substr(0, newline);
    content.remove_prefix(ends ? newline + 1 : content.size());
    if (!skipping_)
      partial_ += piece;
    if (partial_.size() > longest_) { // nothing of the rest can be seen
      line(partial_, out, on_line);
      partial_.clear();
      skipping_ = true;
    }
    if (ends && !skipping_)
      line(partial_, out, on_line);
    if (ends) {
      partial_.clear();
      skipping_ = false;
    }
  }
  return out;
}

std::string PhpMessages::end(const OnLine &on_line) {
  std::string out;
  if (!partial_.empty())
    line(partial_, out, on_line);
  partial_.clear();
  return out;
}

std::string rewrite_stderr(std::string_view records, PhpMessages &messages, const PhpMessages::OnLine &on_line) {
  std::string out;
  while (records.size() >= fcgi::kHeaderLength) {
    const fcgi::Header header = fcgi::decode_header(records);
    const std::size_t length = std::min(header.record_length(), records.size());
    if (header.type == fcgi::RecordType::kStderr && header.content_length > 0)
      fcgi::append_stream(out, fcgi::RecordType::kStderr, header.id,
                          messages.feed(records.substr(fcgi::kHeaderLength, header.content_length), on_line));
    else {
      if (header.type == fcgi::RecordType::kEndRequest)
        fcgi::append_stream(out, fcgi::RecordType::kStderr, header.id, messages.end(on_line));
      out += records.substr(0, length);
    }
    records.remove_prefix(length);
  }
  return out;
}

} // namespace tqfpm::php
