#include "dispatcher/script_choice.h"

#include <algorithm>
#include <utility>

#include "php/script_path.h"
#include "sys/log.h"

namespace tqfpm::dispatcher {

using php::ScriptAnswer;
using php::ScriptRequest;
using pool::Request;

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

// As php-fpm's.
Verdict refusal(int status, const char *title, const char *body, const char *reason, std::string words) {
  LocalAnswer answer;
  answer.status = status;
  answer.reason = reason;
  answer.head = std::string("Status: ") + title + "\r\nContent-type: text/html; charset=UTF-8\r\n";
  answer.body = body;
  answer.words = std::move(words);
  if (status == 403)
    answer.metric = status::Metric::refused_scripts;
  return Verdict::local(std::move(answer));
}

} // namespace

ScriptChoice::ScriptChoice(const config::PoolConfig &pool, const spawner::PhpOptions &options,
                           std::vector<std::string> folders, workers::SpawnerLink &spawner)
    : pool_(pool), folders_(std::move(folders)), spawner_(spawner), rules_(rules_of(pool, options)) {}

void ScriptChoice::learn(const ipc::PhpFacts &facts) {
  rules_.fix_pathinfo = (facts.flags & ipc::kFixPathInfo) != 0;
  rules_.discard_path = (facts.flags & ipc::kDiscardPath) != 0;
  rules_.has_doc_root = (facts.flags & ipc::kDocRoot) != 0;
  rules_.has_user_dir = (facts.flags & ipc::kUserDir) != 0;
  rules_.decode_path_info = decodes_path_info(facts.version);
}

Verdict ScriptChoice::judge(Request &request, bool locked) {
  ScriptRequest script(request.params, rules_);
  const ScriptAnswer answer = script.choose();
  if (answer != ScriptAnswer::kLook)
    return act(request, script, answer, locked);
  look(request, script.path(), locked);
  return Verdict::wait();
}

// What is longer than a path can be is path info: the look begins at the last slash before.
void ScriptChoice::look(Request &request, const std::string &path, bool locked) {
  std::size_t length = path.size();
  if (length > ipc::kLookPath) {
    const std::size_t slash = path.rfind('/', ipc::kLookPath - 1);
    length = slash == std::string::npos ? 0 : slash + 1;
  }
  waiting_[request.key] = Waiting{&request, locked};
  spawner_.look(
      std::string_view(path).substr(0, length),
      [this, key = request.key](const workers::SpawnerAnswer &answer) {
        found_.push_back({key, answer.ok(), answer.reply.memory});
      },
      kPatience);
}

pool::Request *ScriptChoice::found(Verdict &verdict) {
  while (!found_.empty()) {
    const Found found = found_.front();
    found_.pop_front();
    const auto waiting = waiting_.find(found.key);
    if (waiting == waiting_.end())
      continue; // it has gone meanwhile
    const auto [request, locked] = waiting->second;
    waiting_.erase(waiting);
    ScriptRequest script(request->params, rules_);
    (void)script.choose();
    const ScriptAnswer answer = found.looked ? script.found(found.length) : ScriptAnswer::kLook;
    verdict = act(*request, script, answer, locked);
    return request;
  }
  return nullptr;
}

Verdict ScriptChoice::act(Request &request, ScriptRequest &script, ScriptAnswer answer, bool locked) {
  switch (answer) {
  case ScriptAnswer::kRun:
    script.write(request.params, [&](std::string_view path, bool has_path_info) {
      // Without a section scripts see the value of cgi.fix_pathinfo that php-cgi is started with; those that look at it
      // do so for the sake of path info.
      if (locked || has_path_info || (!path.empty() && path.front() != '/') || path.starts_with("//"))
        return php::locked_script(path, folders_);
      return std::string(path);
    });
    return Verdict::run();
  case ScriptAnswer::kDenied: {
    const std::string words =
        fmt::format("Access to the script '{}' has been denied (see security.limit_extensions)", script.script());
    sys::log().notice("[pool {}] request {} \"{} {}\": {}", pool_.name, request.tag,
                      request.params.get("REQUEST_METHOD"), request.params.get("REQUEST_URI"), words);
    return refusal(403, "403 Forbidden", "Access denied.\n", "security.limit_extensions", words);
  }
  case ScriptAnswer::kUnknown:
    return refusal(404, "404 Not Found", "File not found.\n", "no script", "Primary script unknown");
  case ScriptAnswer::kLook: // nobody could
    break;
  }
  return Verdict::local(error_page(AnswerName::kCannotLook, request.tag));
}

void ScriptChoice::forget(const Request &request) {
  if (request.looking)
    waiting_.erase(request.key);
}

} // namespace tqfpm::dispatcher
