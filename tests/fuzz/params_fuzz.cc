// fcgi::Params against a list of pairs that is searched from its end.
#include <optional>
#include <vector>

#include "fcgi/format.h"
#include "fcgi/params.h"
#include "input.h"

namespace {

using namespace tqfpm;
using Pairs = std::vector<std::pair<std::string, std::string>>;

struct Pair {
  std::string sent; // the name as php-cgi gets it
  std::string known;
  std::string value;
  bool found = true; // by find(): not with add_unseen()
};

class Model {
public:
  void assign(const Pairs &pairs) {
    pairs_.clear();
    for (const auto &[name, value] : pairs)
      pairs_.push_back({name, name, value});
  }
  void set(const std::string &name, const std::string &value) { pairs_.push_back({name, name, value}); }
  void add_unseen(const std::string &name, const std::string &value) { pairs_.push_back({name, name, value, false}); }
  bool hide(const std::string &name) {
    bool any = false;
    for (Pair &each : pairs_) {
      if (!each.found || each.known != name)
        continue;
      each.sent[name.find('_')] = '.';
      any = true;
    }
    return any;
  }
  // What has been hidden is called by its new name after this, and unseen pairs are seen: nothing removes after it.
  void remove(const std::string &name) {
    std::erase_if(pairs_, [&](const Pair &each) { return each.sent == name; });
    for (Pair &each : pairs_) {
      each.known = each.sent;
      each.found = true;
    }
  }
  [[nodiscard]] std::optional<std::string> find(const std::string &name) const {
    for (auto each = pairs_.rbegin(); each != pairs_.rend(); ++each) {
      if (each->found && each->known == name)
        return each->value;
    }
    return std::nullopt;
  }
  [[nodiscard]] Pairs sent() const {
    Pairs out;
    for (const Pair &each : pairs_)
      out.emplace_back(each.sent, each.value);
    return out;
  }

private:
  std::vector<Pair> pairs_;
};

constexpr const char *kNames[] = {"SCRIPT_NAME", "PATH_INFO", "PATH_TRANSLATED", "A_", "_", "A_B_C", "PATH.INFO", "A"};

std::string a_name(fuzz::Input &input) {
  const std::size_t which = input.below(std::size(kNames) + 1);
  return which < std::size(kNames) ? kNames[which] : input.text();
}

// The pairs as a reader of the specification takes them; nullopt: they are none.
std::optional<Pairs> pairs_of(std::string_view content) {
  Pairs out;
  const auto length = [&content]() -> std::size_t {
    if (content.empty())
      return SIZE_MAX;
    const std::size_t bytes = (fcgi::byte_at(content, 0) & 0x80U) != 0 ? 4 : 1;
    if (content.size() < bytes)
      return SIZE_MAX;
    std::size_t number = fcgi::byte_at(content, 0) & 0x7fU;
    for (std::size_t i = 1; i < bytes; ++i)
      number = number << 8U | fcgi::byte_at(content, i);
    content.remove_prefix(bytes);
    return number;
  };
  while (!content.empty()) {
    const std::size_t before = content.size();
    const std::size_t name = length();
    const std::size_t value = name == SIZE_MAX ? SIZE_MAX : length();
    if (value == SIZE_MAX || name + value > content.size() ||
        before - content.size() + name + value > fcgi::kMaxContent)
      return std::nullopt;
    out.emplace_back(content.substr(0, name), content.substr(name, value));
    content.remove_prefix(name + value);
  }
  return out;
}

void compare(const fcgi::Params &params, const Model &model, const std::string &name) {
  const auto value = params.find(name);
  FUZZ_CHECK((value ? std::optional<std::string>(*value) : std::nullopt) == model.find(name));
  FUZZ_CHECK(params.get(name) == model.find(name).value_or(""));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  fuzz::Input input(data, size);
  const std::string content(input.take(input.below(2048)));
  const auto pairs = pairs_of(content);
  fcgi::Params params;
  Model model;
  const auto verdict = params.assign(content);
  FUZZ_CHECK((verdict == fcgi::Params::Verdict::kGood) == (pairs && pairs->size() <= fcgi::Params::kMaxPairs));
  if (pairs && verdict == fcgi::Params::Verdict::kGood)
    model.assign(*pairs);
  for (int steps = 0; steps < 64 && !input.empty(); ++steps) {
    const unsigned what = input.byte() % 8U;
    const std::string name = a_name(input);
    if (what < 3) {
      const std::string value(input.text());
      params.set(name, value);
      model.set(name, value);
    } else if (what == 3) {
      params.remove(name);
      model.remove(name);
    } else if (what < 6 && name.find('_') != std::string::npos) {
      FUZZ_CHECK(params.hide(name) == model.hide(name));
    } else if (what == 6) {
      params.add_unseen(name, "x");
      model.add_unseen(name, "x");
    }
    compare(params, model, name);
  }
  for (const char *name : kNames)
    compare(params, model, name);
  FUZZ_CHECK(pairs_of(params.content()) == model.sent());
  return 0;
}
