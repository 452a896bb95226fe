#include "dispatcher/scripts.h"

#include <algorithm>
#include <cstring>

#include "php/script_path.h"
#include "sys/log.h"

namespace tqfpm::dispatcher {

using php::ScriptAnswer;
using php::ScriptRequest;

namespace {

constexpr Duration kPatience = seconds(10); // for a file system that does not answer

php::ScriptRules rules_of(const config::PoolConfig &pool, const spawner::PhpOptions &options) {
  const spawner::PathSettings settings = spawner::path_settings(pool, options);
  php::ScriptRules rules;
  rules.fix_pathinfo = settings.fix_pathinfo;
  rules.discard_path = settings.discard_path;
  rules.decode_path = !settings.script_path_encoded;
  rules.doc_root = settings.doc_root;
  rules.has_doc_root = !settings.doc_root.empty();
  rules.has_user_dir = !settings.user_dir.empty();
  rules.extensions = pool.security_limit_extensions;
  return rules;
}

// PHP 8.3.18 and 8.4.5 were the first.
bool decodes_path_info(std::uint32_t version) {
  return version >= 80405 || (version >= 80318 && version < 80400);
}

LocalAnswer page(int status, const char *title, const char *body, const char *reason, std::string words) {
  LocalAnswer answer;
  answer.status = status;
  answer.reason = reason;
  answer.head = std::string("Status: ") + title + "\r\nContent-type: text/html; charset=UTF-8\r\n";
  answer.body = body;
  answer.words = std::move(words);
  return answer;
}

} // namespace

Scripts::Scripts(sys::EventLoop &loop, ScriptsOwner &owner, const config::PoolConfig &pool,
                 const spawner::PhpOptions &options, std::vector<std::string> folders)
    : owner_(owner), pool_(pool), folders_(std::move(folders)), rules_(rules_of(pool, options)),
      timer_(loop, [this] { give_up(Clock::now()); }) {}

void Scripts::learn(const ipc::PhpFacts &facts) {
  rules_.fix_pathinfo = (facts.flags & ipc::kFixPathInfo) != 0;
  rules_.discard_path = (facts.flags & ipc::kDiscardPath) != 0;
  rules_.has_doc_root = (facts.flags & ipc::kDocRoot) != 0;
  rules_.has_user_dir = (facts.flags & ipc::kUserDir) != 0;
  rules_.decode_path_info = decodes_path_info(facts.version);
}

bool Scripts::refuses(Request &request, bool locked) {
  ScriptRequest script(request.params, rules_);
  const ScriptAnswer answer = script.choose();
  if (answer == ScriptAnswer::kLook && look(request, script.path(), locked))
    return false;
  return act(request, script, answer, locked);
}

// What is longer than a path can be is path info: the look begins at the last slash before.
bool Scripts::look(Request &request, const std::string &path, bool locked) {
  ipc::LookRequest order{ipc::SpawnKind::kLook, next_id_++, 0, {}};
  std::size_t length = path.size();
  if (length > sizeof order.path) {
    const std::size_t slash = path.rfind('/', sizeof order.path - 1);
    length = slash == std::string::npos ? 0 : slash + 1;
  }
  memcpy(order.path, path.data(), length);
  order.length = static_cast<std::uint32_t>(length);
  if (!owner_.ask_look(order))
    return false;
  waiting_[order.id] = Waiting{&request, locked, Clock::now() + kPatience};
  timer_.at(waiting_.begin()->second.given_up);
  request.looking = true;
  return true;
}

bool Scripts::act(Request &request, ScriptRequest &script, ScriptAnswer answer, bool locked) {
  switch (answer) {
  case ScriptAnswer::kRun:
    script.write(request.params, [&](std::string_view path, bool has_path_info) {
      // Without a section scripts see the value of cgi.fix_pathinfo that php-cgi is started with; those that look at it
      // do so for the sake of path info.
      if (locked || has_path_info || (!path.empty() && path.front() != '/') || path.starts_with("//"))
        return php::locked_script(path, folders_);
      return std::string(path);
    });
    return false;
  case ScriptAnswer::kDenied: {
    const std::string words =
        fmt::format("Access to the script '{}' has been denied (see security.limit_extensions)", script.script());
    sys::log().notice("[pool {}] request {} \"{} {}\": {}", pool_.name, request.tag,
                      request.params.get("REQUEST_METHOD"), request.params.get("REQUEST_URI"), words);
    owner_.script_refused(request, page(403, "403 Forbidden", "Access denied.\n", "security.limit_extensions", words));
    return true;
  }
  case ScriptAnswer::kUnknown:
    owner_.script_refused(request,
                          page(404, "404 Not Found", "File not found.\n", "no script", "Primary script unknown"));
    return true;
  case ScriptAnswer::kLook:
    break;
  }
  owner_.script_refused(request, error_page(503, "the script cannot be looked for", request.tag));
  return true;
}

void Scripts::answered(const ipc::SpawnerReply &reply) {
  const auto found = waiting_.find(reply.id);
  if (found == waiting_.end())
    return;
  const Waiting waiting = found->second;
  waiting_.erase(found);
  waiting.request->looking = false;
  ScriptRequest script(waiting.request->params, rules_);
  (void)script.choose();
  if (!act(*waiting.request, script, script.found(reply.memory), waiting.locked))
    owner_.script_ready(*waiting.request);
}

void Scripts::give_up(TimePoint until) {
  while (!waiting_.empty() && waiting_.begin()->second.given_up <= until) {
    const Waiting waiting = waiting_.begin()->second;
    waiting_.erase(waiting_.begin());
    waiting.request->looking = false;
    ScriptRequest script(waiting.request->params, rules_);
    (void)act(*waiting.request, script, ScriptAnswer::kLook, waiting.locked);
  }
  timer_.at(waiting_.empty() ? TimePoint::max() : waiting_.begin()->second.given_up);
}

void Scripts::spawner_gone() {
  give_up(TimePoint::max());
}

void Scripts::forget(const Request &request) {
  if (request.looking)
    std::erase_if(waiting_, [&request](const auto &each) { return each.second.request == &request; });
}

} // namespace tqfpm::dispatcher
