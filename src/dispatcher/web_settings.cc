#include "dispatcher/web_settings.h"

#include "base/text.h"
#include "config/dump.h"
#include "sys/log.h"
#include "sys/shared_memory.h"

namespace tqfpm::dispatcher {

namespace {

constexpr std::size_t kRemembered = 256; // texts of settings that have been read

struct Texts {
  explicit Texts(const pool::Request &request)
      : value(request.params.get("PHP_VALUE")), flag(request.params.get("PHP_FLAG")),
        admin_value(request.params.get("PHP_ADMIN_VALUE")), admin_flag(request.params.get("PHP_ADMIN_FLAG")) {}
  [[nodiscard]] bool any() const { return !(trim(value).empty() && trim(flag).empty() && !any_admin()); }
  [[nodiscard]] bool any_admin() const { return !(trim(admin_value).empty() && trim(admin_flag).empty()); }
  [[nodiscard]] std::size_t size() const { return value.size() + flag.size() + admin_value.size() + admin_flag.size(); }
  [[nodiscard]] std::string key() const {
    std::string key;
    for (const std::string_view each : {value, flag, admin_value, admin_flag})
      key.append(each).push_back('\0');
    return key;
  }
  std::string_view value, flag, admin_value, admin_flag;
};

} // namespace

// The policy comes before anything is parsed.
bool WebSettings::refused(const pool::Request &request) const {
  using Policy = config::WebValuesPolicy;
  const Policy policy = pool().security_web_php_values;
  const Texts texts(request);
  if (policy == Policy::kAll || (policy == Policy::kUser && !texts.any_admin()))
    return false;
  sys::log().warning("[pool {}] request {} \"{} {}\" of {} refused: its web server sends PHP settings, and "
                     "security.web_php_values is {}",
                     pool().name, request.tag, request.params.get("REQUEST_METHOD"), request.params.get("REQUEST_URI"),
                     request.peer.empty() ? "a local web server" : request.peer,
                     policy == Policy::kUser ? "user" : "refuse");
  return true;
}

// Neither copied nor remembered.
bool WebSettings::too_long(const pool::Request &request) const {
  const std::size_t size = Texts(request).size();
  if (size <= config::kMaxWebValues)
    return false;
  sys::log().warning(
      "[pool {}] request {} \"{} {}\" refused: its web server sends {} bytes of PHP settings, {} are the "
      "most",
      pool().name, request.tag, request.params.get("REQUEST_METHOD"), request.params.get("REQUEST_URI"), size,
      config::kMaxWebValues);
  return true;
}

const WebSettings::Settings &WebSettings::read(const pool::Request &request) {
  const Texts texts(request);
  std::string key = texts.key();
  if (const auto found = read_.find(key); found != read_.end())
    return found->second;
  if (read_.size() >= kRemembered)
    read_.clear();
  Settings settings;
  settings.values = config::web_values(texts.value, texts.flag, texts.admin_value, texts.admin_flag);
  settings.key = settings.values.key();
  for (const std::string &mistake : settings.values.mistakes)
    sys::log().warning("[pool {}] PHP settings of the web server, for \"{}\": {}; the rest of them is used",
                       pool().name, request.params.get("REQUEST_URI"), mistake);
  return read_.emplace(std::move(key), std::move(settings)).first->second;
}

Verdict WebSettings::judge(pool::Request &request, bool &locked) {
  if (!Texts(request).any())
    return Verdict::run();
  if (refused(request) || too_long(request))
    return Verdict::local(error_page(AnswerName::kSettingsRefused, request.tag));
  const Settings &settings = read(request);
  if (settings.values.empty())
    return Verdict::run();
  const auto variant = workers_.variant(settings.key, [this, &settings] {
    return sys::sealed_text("tqfpm-settings",
                            config::dump_pool(config_, config::with_web_values(pool(), settings.values)));
  });
  if (!variant)
    return Verdict::local(error_page(AnswerName::kSettingsFail, request.tag));
  request.variant = *variant;
  locked = locked || !settings.values.admin.empty();
  return Verdict::run();
}

} // namespace tqfpm::dispatcher
