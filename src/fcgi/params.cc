#include "fcgi/params.h"

#include <algorithm>

#include "fcgi/format.h"

namespace tqfpm::fcgi {

bool PairReader::read_length(std::size_t &offset, std::size_t &length) {
  if (offset >= rest_.size())
    return false;
  length = byte_at(rest_, offset);
  if (length < 128) {
    offset += 1;
    return true;
  }
  if (rest_.size() - offset < 4)
    return false;
  length = (length & 0x7f) << 24 | static_cast<std::size_t>(byte_at(rest_, offset + 1)) << 16 |
           static_cast<std::size_t>(byte_at(rest_, offset + 2)) << 8 | byte_at(rest_, offset + 3);
  offset += 4;
  return true;
}

std::optional<PairReader::Pair> PairReader::next() {
  if (rest_.empty() || malformed_)
    return std::nullopt;
  std::size_t offset = 0;
  std::size_t name_length = 0;
  std::size_t value_length = 0;
  if (!read_length(offset, name_length) || !read_length(offset, value_length) || name_length > rest_.size() - offset ||
      value_length > rest_.size() - offset - name_length) {
    malformed_ = true;
    return std::nullopt;
  }
  const std::size_t end = offset + name_length + value_length;
  Pair pair{rest_.substr(offset, name_length), rest_.substr(offset + name_length, value_length), rest_.substr(0, end)};
  rest_.remove_prefix(end);
  return pair;
}

namespace {
void append_length(std::string &out, std::size_t length) {
  if (length >= 128) {
    out += static_cast<char>(0x80 | (length >> 24 & 0x7f));
    out += static_cast<char>(length >> 16 & 0xff);
    out += static_cast<char>(length >> 8 & 0xff);
  }
  out += static_cast<char>(length & 0xff);
}
} // namespace

void append_pair(std::string &content, std::string_view name, std::string_view value) {
  append_length(content, name.size());
  append_length(content, value.size());
  content.append(name).append(value);
}

Params::Verdict Params::assign(std::string content) {
  content_ = std::move(content);
  const Verdict verdict = index_all(kMaxPairs);
  if (verdict != Verdict::kGood) {
    content_.clear();
    index_.clear();
  }
  return verdict;
}

Params::Verdict Params::index_all(std::size_t most) {
  constexpr std::size_t kUsual = 40; // of a web server, and what set() adds
  index_.clear();
  index_.reserve(std::min(kUsual, content_.size() / 2));
  PairReader reader(content_);
  while (const auto pair = reader.next()) {
    if (pair->encoded.size() > kMaxContent)
      return Verdict::kMalformed;
    if (index_.size() == most)
      return Verdict::kTooMany;
    index(*pair);
  }
  return reader.malformed() ? Verdict::kMalformed : Verdict::kGood;
}

void Params::index(const PairReader::Pair &pair) {
  index_.push_back(Entry{static_cast<std::uint32_t>(pair.name.data() - content_.data()), outline_of(pair.name),
                         static_cast<std::uint32_t>(pair.value.size()), 0});
}

std::uint32_t Params::outline_of(std::string_view name) {
  const auto length = static_cast<std::uint32_t>(name.size()); // at most kMaxContent
  if (length == 0)
    return 0;
  return length << 16 | static_cast<std::uint32_t>(byte_at(name, length - 1)) << 8 |
         static_cast<std::uint32_t>(byte_at(name, length / 2));
}

bool Params::is_called(const Entry &entry, std::string_view name) const {
  const std::string_view own = std::string_view(content_).substr(entry.name_offset, entry.name_length());
  if (entry.hidden_by == 0)
    return own == name;
  const std::size_t dot = entry.hidden_by - 1;
  return name[dot] == '_' && own.substr(0, dot) == name.substr(0, dot) && own.substr(dot + 1) == name.substr(dot + 1);
}

void Params::set(std::string_view name, std::string_view value) {
  std::string encoded;
  append_pair(encoded, name, value);
  if (encoded.size() > kMaxContent) {
    remove(name);
    return;
  }
  const std::size_t offset = content_.size();
  content_ += encoded;
  PairReader reader(std::string_view(content_).substr(offset));
  index(*reader.next());
}

void Params::add_unseen(std::string_view name, std::string_view value) {
  std::string encoded;
  append_pair(encoded, name, value);
  if (encoded.size() <= kMaxContent)
    content_ += encoded;
}

void Params::remove(std::string_view name) {
  std::string content;
  PairReader reader(content_);
  while (const auto pair = reader.next()) {
    if (pair->name != name)
      content += pair->encoded;
  }
  content_ = std::move(content);
  (void)index_all(SIZE_MAX); // all of which have been taken, or are our own
}

// PHP makes _ of a dot in the name of a variable, after it has looked for parameters that mean something to itself.
bool Params::hide(std::string_view name) {
  const std::size_t underscore = name.find('_');
  const std::uint32_t outline = outline_of(name);
  bool any = false;
  for (Entry &entry : index_) {
    if (entry.outline != outline || !is_called(entry, name))
      continue;
    content_[entry.name_offset + underscore] = '.';
    entry.hidden_by = static_cast<std::uint32_t>(underscore) + 1;
    any = true;
  }
  return any;
}

std::optional<std::string_view> Params::find(std::string_view name) const {
  const std::uint32_t outline = outline_of(name);
  for (auto entry = index_.rbegin(); entry != index_.rend(); ++entry) {
    if (entry->outline == outline && is_called(*entry, name))
      return std::string_view(content_).substr(entry->name_offset + name.size(), entry->value_length);
  }
  return std::nullopt;
}

} // namespace tqfpm::fcgi
