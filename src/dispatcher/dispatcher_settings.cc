// The dispatcher's requests: PHP settings that come with them, and the script that they name.
#include "config/dump.h"
#include "dispatcher/dispatcher.h"
#include "sys/log.h"

namespace tqfpm::dispatcher {

using status::Metric;

namespace {

constexpr std::size_t kRemembered = 256; // texts of settings that have been read

} // namespace

const Dispatcher::WebSettings *Dispatcher::web_settings(const Request &request) {
  constexpr std::string_view kNames[] = {"PHP_VALUE", "PHP_FLAG", "PHP_ADMIN_VALUE", "PHP_ADMIN_FLAG"};
  std::string_view texts[4];
  std::string all;
  for (std::size_t i = 0; i < 4; ++i) {
    texts[i] = request.params.get(kNames[i]);
    if (!texts[i].empty())
      all.append(kNames[i]).append("\n").append(texts[i]).push_back('\0');
  }
  if (all.empty())
    return nullptr;
  if (const auto found = web_settings_.find(all); found != web_settings_.end())
    return &found->second;
  if (web_settings_.size() >= kRemembered)
    web_settings_.clear();
  WebSettings settings;
  settings.values = config::web_values(texts[0], texts[1], texts[2], texts[3]);
  settings.key = settings.values.key();
  for (const std::string &mistake : settings.values.mistakes)
    sys::log().warning("[pool {}] PHP settings of the web server, for \"{}\": {}{}", pool_.name,
                       request.params.get("REQUEST_URI"), mistake,
                       settings.values.too_long ? "" : "; the rest of them is used");
  return &web_settings_.emplace(std::move(all), std::move(settings)).first->second;
}

bool Dispatcher::refuse_settings(Request &request, const WebSettings &settings) {
  using Policy = config::WebValuesPolicy;
  const Policy policy = pool_.security_web_php_values;
  if (settings.values.too_long) {
    answer(request, error_page(403, "PHP settings refused", request.tag));
    return true;
  }
  if (policy == Policy::kAll || (policy == Policy::kUser && settings.values.admin.empty()))
    return false;
  sys::log().warning("[pool {}] request {} \"{} {}\" of {} refused: its web server sends PHP settings, and "
                     "security.web_php_values is {}",
                     pool_.name, request.tag, request.params.get("REQUEST_METHOD"), request.params.get("REQUEST_URI"),
                     request.client->peer().empty() ? "a local web server" : request.client->peer(),
                     policy == Policy::kUser ? "user" : "refuse");
  board().add(Metric::refused_settings);
  answer(request, error_page(403, "PHP settings refused", request.tag));
  return true;
}

// True: the request has been answered.
bool Dispatcher::choose_variant(Request &request) {
  const WebSettings *settings = web_settings(request);
  if (settings == nullptr || (settings->values.empty() && !settings->values.too_long)) {
    return scripts_.refuses(request, locked_values_);
  }
  if (refuse_settings(request, *settings))
    return true;
  const auto variant = crew_.variant(settings->key, [this, settings] {
    return sys::sealed_text("tqfpm-settings",
                            config::dump_pool(config_, config::with_web_values(pool_, settings->values)));
  });
  if (!variant) {
    answer(request, error_page(500, "PHP does not start with these settings", request.tag));
    return true;
  }
  request.variant = *variant;
  return scripts_.refuses(request, locked_values_ || !settings->values.admin.empty());
}

void Dispatcher::variant_failed(pool::VariantNumber variant) {
  std::vector<pool::RequestKey> waiting;
  for (const pool::RequestQueue::Entry &entry : queue_.entries()) {
    if (entry.variant == variant)
      waiting.push_back(entry.key);
  }
  for (const pool::RequestKey key : waiting) {
    queue_.remove(key);
    Request &request = *by_key_.at(key);
    by_key_.erase(key);
    answer(request, error_page(500, "PHP does not start with these settings", request.tag));
  }
}

void Dispatcher::script_refused(Request &request, const LocalAnswer &page) {
  if (page.status == 403)
    board().add(Metric::refused_scripts);
  answer(request, page);
}

void Dispatcher::script_ready(Request &request) {
  if (request.body_complete || request.body.size() >= client_settings_.request_buffer)
    request_ready(request);
}

} // namespace tqfpm::dispatcher
