// Name-value pairs of FCGI_PARAMS and FCGI_GET_VALUES (FastCGI 1.0, section 3.4).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tqfpm::fcgi {

// Decodes pairs one after the other from the content of a whole stream.
class PairReader {
public:
  struct Pair {
    std::string_view name;
    std::string_view value;
    std::string_view encoded; // the pair's bytes, lengths included
  };
  explicit PairReader(std::string_view content) : rest_(content) {}

  // The next pair; nullopt at the end or where the bytes are no pair (see malformed()).
  std::optional<Pair> next();
  [[nodiscard]] bool malformed() const { return malformed_; }

private:
  bool read_length(std::size_t &offset, std::size_t &length);
  std::string_view rest_;
  bool malformed_ = false;
};

// Appends one encoded pair. Names and values are at most 2^31-1 bytes.
void append_pair(std::string &content, std::string_view name, std::string_view value);

// The parameters of one request: the stream's content and an index into it. Of several pairs of one name the last
// counts, as in PHP.
class Params {
public:
  // Most pairs that one request may bring. A pair takes two bytes at least and 16 in the index.
  static constexpr std::size_t kMaxPairs = 4096;
  // kMalformed: also where one pair is too long for a record (php-cgi reads pairs record by record, so that a pair
  // cannot span two). kTooMany: more than kMaxPairs.
  enum class Verdict : std::uint8_t { kGood, kMalformed, kTooMany };
  // Takes the content of the whole PARAMS stream. What is not kGood leaves no parameter.
  [[nodiscard]] Verdict assign(std::string content);
  // Adds a pair at the end: it replaces what has the same name. Views into the content end. A pair that fits no record
  // is left out.
  void set(std::string_view name, std::string_view value);
  // Takes all pairs of that name away. Views into the content end.
  void remove(std::string_view name);
  // php-cgi itself does not find this parameter any more; scripts do, by the same name, and so does find(). False:
  // there is none. `name` has an underscore.
  bool hide(std::string_view name);
  // Adds a pair for php-cgi that find() does not know. Scripts see a hidden one in its place.
  void add_unseen(std::string_view name, std::string_view value);
  [[nodiscard]] std::optional<std::string_view> find(std::string_view name) const;
  // The value, or "" where there is none.
  [[nodiscard]] std::string_view get(std::string_view name) const { return find(name).value_or(std::string_view()); }
  [[nodiscard]] const std::string &content() const { return content_; }
  [[nodiscard]] std::size_t size() const { return index_.size(); }

private:
  Verdict index_all(std::size_t most);
  void index(const PairReader::Pair &pair);
  struct Entry;
  static std::uint32_t outline_of(std::string_view name);
  [[nodiscard]] bool is_called(const Entry &entry, std::string_view name) const;
  struct Entry {
    [[nodiscard]] std::size_t name_length() const { return outline >> 16; }
    std::uint32_t name_offset;
    std::uint32_t outline;      // the name's length, its last letter and one in the middle: what differs between most
    std::uint32_t value_length; // the value follows the name
    std::uint32_t hidden_by;    // one more than where a dot stands for an underscore of the name; 0: nowhere
  };
  static_assert(sizeof(Entry) == 16);
  std::string content_;
  std::vector<Entry> index_;
};

} // namespace tqfpm::fcgi
