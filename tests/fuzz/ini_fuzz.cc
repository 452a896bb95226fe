// config::read_ini: any text becomes items in order, in linear time, and a quoted value comes back as it was.
#include "config/ini_source.h"
#include "input.h"
#include "linear.h"

namespace {

using namespace tqfpm;
using config::IniItem;

std::optional<std::string> environment(const std::string &name) {
  return name.size() < 8 ? std::optional<std::string>("<" + name + ">") : std::nullopt;
}

void check_items(const std::vector<IniItem> &items, std::string_view text) {
  int line = 0;
  std::size_t bytes = 0;
  const auto lines = 1 + std::count(text.begin(), text.end(), '\n');
  for (const IniItem &each : items) {
    FUZZ_CHECK(each.line >= line && each.line >= 1 && each.line <= lines);
    FUZZ_CHECK((each.kind == IniItem::Kind::kError) == !each.error.empty());
    FUZZ_CHECK(each.error.size() < 200);
    line = each.line;
    bytes += each.entry.key.size() + each.entry.value.size() + each.section.size();
  }
  FUZZ_CHECK(bytes <= 3 * text.size()); // ${x} is four bytes and three
}

void check_quoting(const std::string &value) {
  const std::string text = "a = 1\nkey[x] = " + config::quote(value) + " ; said\n[next]\n";
  const auto items = config::read_ini(text, environment);
  FUZZ_CHECK(items.size() == 3 && items[2].section == "next");
  FUZZ_CHECK(items[1].kind == IniItem::Kind::kEntry && items[1].entry.key == "key" && items[1].entry.quoted);
  FUZZ_CHECK(items[1].entry.array_key == "x" && items[1].entry.value == value);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  const std::string text(reinterpret_cast<const char *>(data), size);
  check_items(config::read_ini(text, environment), text);
  check_items(config::read_ini(text, nullptr), text);
  check_quoting(text);
  if (fuzz::now_and_then(text))
    fuzz::check_linear(text, 2000, [](const std::string &longer) { (void)config::read_ini(longer, environment); });
  return 0;
}
