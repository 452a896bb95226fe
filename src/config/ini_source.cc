#include "config/ini_source.h"

#include <fmt/format.h>
#include <ini.h>

#include <algorithm>
#include <cstring>

#include "base/text.h"

namespace tqfpm::config {

namespace {

// libinih sees only lines of this length and of letters that mean nothing to it: keys and values travel in hex.
constexpr std::size_t kChunk = 60;

std::string to_hex(std::string_view text) {
  std::string out;
  for (const char c : text)
    out += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return out;
}

std::string from_hex(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2)
    out += static_cast<char>(to_number(text.substr(i, 2), 16).value_or('?'));
  return out;
}

bool is_comment(std::string_view line) {
  return line.empty() || line.front() == ';' || line.front() == '#';
}

// Does what may come after a backslash in "..." lose its meaning by it?
bool is_escaped(std::string_view text, std::size_t at, char mark) {
  return mark == '"' && text[at] == '\\' && at + 1 < text.size() &&
         (text[at + 1] == '"' || text[at + 1] == '\\' || text[at + 1] == '$');
}

// The index of the quote that closes the one at the start; npos if there is none.
std::size_t closing_quote(std::string_view text) {
  for (std::size_t at = 1; at < text.size(); ++at) {
    if (is_escaped(text, at, text.front()))
      ++at;
    else if (text[at] == text.front())
      return at;
  }
  return std::string_view::npos;
}

bool is_quote(char c) {
  return c == '"' || c == '\'';
}

// Where the value of "name = value" begins, if it begins with a quote; npos otherwise.
std::size_t opening_quote(std::string_view line) {
  const std::string_view written = trim(line);
  const std::size_t equals = line.find('=');
  if (is_comment(written) || written.front() == '[' || equals == std::string_view::npos)
    return std::string_view::npos;
  const std::string_view value = trim(line.substr(equals + 1));
  return !value.empty() && is_quote(value.front()) ? static_cast<std::size_t>(value.data() - line.data())
                                                   : std::string_view::npos;
}

// What is said of a text may be a whole file: its start is enough.
std::string start_of(std::string_view text) {
  return std::string(text.substr(0, 80));
}

// "name[x]" to its two parts.
void split_key(Entry &entry) {
  const std::size_t bracket = entry.key.find('[');
  if (bracket == std::string::npos || !entry.key.ends_with(']'))
    return;
  entry.array_key = std::string(trim(std::string_view(entry.key).substr(bracket + 1, entry.key.size() - bracket - 2)));
  entry.key = trim(std::string_view(entry.key).substr(0, bracket));
}

class Reader {
public:
  Reader(std::string_view text, const Environment &environment) : rest_(text), environment_(environment) {}

  std::vector<IniItem> run() {
    (void)ini_parse_stream(&Reader::next_line, this, &Reader::entry, this);
    for (IniItem &item : items_)
      split_key(item.entry);
    return std::move(items_);
  }

private:
  static char *next_line(char *buffer, int size, void *self);
  static int entry(void *self, const char *section, const char *name, const char *value);
  void read_source_line();
  std::string_view next_source_line();
  std::string_view with_lines_of_value(std::string_view line);
  void take(std::string_view line);
  void take_section(std::string_view line);
  void take_entry(std::string_view line);
  std::string value_of(std::string_view text, bool &quoted);
  std::string quoted_value(std::string_view text, char mark);
  void expand(std::string_view text, std::size_t &at, std::string &out);
  void complain(const std::string &what);

  std::string_view rest_;
  const Environment &environment_;
  std::vector<IniItem> items_;
  std::vector<std::string> pending_; // lines for libinih, the next one last
  int line_ = 0;                     // of the item at hand: its first one
  int lines_read_ = 0;
  bool value_quoted_ = false;
  bool at_end_ = false;
};

void Reader::complain(const std::string &what) {
  IniItem item;
  item.kind = IniItem::Kind::kError;
  item.line = line_;
  item.error = what;
  items_.push_back(std::move(item));
}

// libinih's fgets(): one short line at a time.
char *Reader::next_line(char *buffer, int size, void *self) {
  auto *reader = static_cast<Reader *>(self);
  while (reader->pending_.empty() && !reader->at_end_)
    reader->read_source_line();
  if (reader->pending_.empty())
    return nullptr;
  const std::string line = std::move(reader->pending_.back());
  reader->pending_.pop_back();
  const std::size_t length = std::min(line.size(), static_cast<std::size_t>(size) - 1);
  memcpy(buffer, line.data(), length);
  buffer[length] = 0;
  return buffer;
}

void Reader::read_source_line() {
  if (rest_.empty()) {
    at_end_ = true;
    return;
  }
  std::string_view line = next_source_line();
  line_ = lines_read_;
  if (line_ == 1 && line.starts_with("\xef\xbb\xbf"))
    line.remove_prefix(3);
  take(trim(with_lines_of_value(line)));
}

// A quoted value may go on in the lines that follow; one that never ends is an error of its first line alone. Each of
// the two quotes can be looked for in vain only once, since another value that it opens closes the one before.
std::string_view Reader::with_lines_of_value(std::string_view line) {
  const std::size_t open = opening_quote(line);
  if (open == std::string_view::npos)
    return line;
  const std::string_view value(line.data() + open, static_cast<std::size_t>(rest_.end() - line.begin()) - open);
  const std::size_t close = closing_quote(value);
  if (close == std::string_view::npos)
    return line;
  while (line.size() <= open + close)
    line = std::string_view(line.data(), static_cast<std::size_t>(next_source_line().end() - line.begin()));
  return line;
}

std::string_view Reader::next_source_line() {
  const std::size_t end = std::min(rest_.find('\n'), rest_.size());
  const std::string_view line = rest_.substr(0, end);
  rest_.remove_prefix(std::min(end + 1, rest_.size()));
  ++lines_read_;
  return line;
}

void Reader::take(std::string_view line) {
  if (is_comment(line))
    return;
  if (line.front() == '[')
    take_section(line);
  else
    take_entry(line);
}

void Reader::take_section(std::string_view line) {
  const std::size_t end = line.find(']');
  const std::string_view after = end == std::string_view::npos ? line : trim(line.substr(end + 1));
  if (end == std::string_view::npos || !is_comment(after)) {
    complain("'" + start_of(line) + "' is no section: [name] is expected");
    return;
  }
  IniItem item;
  item.kind = IniItem::Kind::kSection;
  item.line = line_;
  item.section = trim(line.substr(1, end - 1));
  items_.push_back(std::move(item));
}

void Reader::take_entry(std::string_view line) {
  const std::size_t equals = line.find('=');
  const std::string_view key = trim(line.substr(0, std::min(equals, line.size())));
  if (equals == std::string_view::npos || key.empty()) {
    complain("'" + start_of(line) + "' is no directive: name = value is expected");
    return;
  }
  const std::string value = value_of(trim(line.substr(equals + 1)), value_quoted_);
  // A key in one line, its value in as many continuation lines as it needs; 'k' and 'v' so that none is empty.
  const std::string hex = to_hex(value);
  const std::string key_hex = to_hex(key);
  for (std::size_t chunks = (hex.size() + kChunk - 1) / kChunk; chunks-- > 0;)
    pending_.push_back("  v" + hex.substr(chunks * kChunk, kChunk) + "\n");
  for (std::size_t chunks = (key_hex.size() + kChunk - 1) / kChunk; chunks-- > 0;)
    pending_.push_back("  k" + key_hex.substr(chunks * kChunk, kChunk) + "\n");
  pending_.push_back("e = start\n");
}

int Reader::entry(void *self, const char *, const char *, const char *value) {
  auto *reader = static_cast<Reader *>(self);
  if (strcmp(value, "start") == 0) {
    IniItem item;
    item.line = reader->line_;
    item.entry.quoted = reader->value_quoted_;
    reader->items_.push_back(std::move(item));
    return 1;
  }
  Entry &entry = reader->items_.back().entry;
  const std::string text = from_hex(value + 1);
  if (*value == 'v') {
    entry.value += text;
    return 1;
  }
  entry.key += text;
  return 1;
}

// ${NAME} at `at`.
void Reader::expand(std::string_view text, std::size_t &at, std::string &out) {
  const std::size_t end = text.find('}', at);
  if (end == std::string_view::npos) {
    complain("'${' without '}'");
    at = text.size();
    return;
  }
  const std::string name(text.substr(at + 2, end - at - 2));
  const auto found = environment_ ? environment_(name) : std::nullopt;
  out += found.value_or("");
  at = end + 1;
}

std::string Reader::quoted_value(std::string_view text, char mark) {
  std::string out;
  std::size_t at = 1;
  while (at < text.size() && text[at] != mark) {
    if (is_escaped(text, at, mark)) {
      out += text[at + 1];
      at += 2;
    } else if (mark == '"' && text.substr(at).starts_with("${")) {
      expand(text, at, out);
    } else {
      out += text[at++];
    }
  }
  if (at >= text.size()) {
    complain(fmt::format("the value {} has no closing quote", start_of(text)));
    return out;
  }
  const std::string_view after = trim(text.substr(at + 1));
  if (!is_comment(after))
    complain(fmt::format("'{}' after the closing quote", start_of(after)));
  return out;
}

std::string Reader::value_of(std::string_view text, bool &quoted) {
  quoted = !text.empty() && is_quote(text.front());
  if (quoted)
    return quoted_value(text, text.front());
  std::string out;
  for (std::size_t at = 0; at < text.size() && text[at] != ';';) {
    if (text.substr(at).starts_with("${"))
      expand(text, at, out);
    else
      out += text[at++];
  }
  return std::string(trim(out));
}

} // namespace

std::vector<IniItem> read_ini(std::string_view text, const Environment &environment) {
  return Reader(text, environment).run();
}

} // namespace tqfpm::config
