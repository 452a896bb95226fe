// php::ScriptRequest: whatever a web server says, what php-cgi would run ends in an extension that may run.
#include <vector>

#include "fcgi/params.h"
#include "input.h"
#include "php/script_path.h"
#include "php/script_request.h"

namespace {

using namespace tqfpm;
using php::ScriptAnswer;

constexpr const char *kNames[] = {"SCRIPT_FILENAME", "PATH_TRANSLATED", "PATH_INFO",      "SCRIPT_NAME",
                                  "REDIRECT_URL",    "DOCUMENT_ROOT",   "SERVER_SOFTWARE"};
constexpr const char *kPieces[] = {"/a", "/b.php", "/",     "..",   ".php", "%2f",           "proxy:fcgi://h",
                                   "?q", "/~u",    ".phar", ".txt", "%00",  "Microsoft-IIS", "/x.php/y",
                                   "//", "/.",     "/srv"};

// Paths are made of pieces that mean something, and of others.
std::string a_path(fuzz::Input &input) {
  std::string out;
  for (std::size_t left = input.below(6); left > 0; --left) {
    const std::size_t which = input.below(std::size(kPieces) + 1);
    out += which < std::size(kPieces) ? std::string(kPieces[which]) : input.text(8);
  }
  return out;
}

php::ScriptRules rules_of(fuzz::Input &input) {
  const unsigned bits = input.byte();
  php::ScriptRules rules;
  rules.fix_pathinfo = (bits & 1U) == 0;
  rules.discard_path = (bits & 2U) != 0;
  rules.decode_path = (bits & 4U) != 0;
  rules.decode_path_info = (bits & 8U) != 0;
  rules.has_doc_root = (bits & 16U) != 0;
  rules.has_user_dir = (bits & 32U) != 0;
  rules.doc_root = (bits & 64U) != 0 ? "/srv" : "";
  if ((bits & 128U) == 0)
    rules.extensions = {".php", ".phar"};
  return rules;
}

bool ends_well(std::string_view path, const php::ScriptRules &rules) {
  return rules.extensions.empty() || path.ends_with(".php") || path.ends_with(".phar");
}

// What php-cgi, started with cgi.fix_pathinfo=0 and cgi.discard_path=0, opens: a C string.
std::string opened(const fcgi::Params &params) {
  std::string content = params.content(); // as it reads it, without our index
  fcgi::Params sent;
  FUZZ_CHECK(sent.assign(std::move(content)) == fcgi::Params::Verdict::kGood);
  const auto translated = sent.find("PATH_TRANSLATED");
  const std::string path(translated ? *translated : sent.get("SCRIPT_FILENAME"));
  return path.substr(0, path.find('\0'));
}

void check_locked(std::string_view path) {
  const std::vector<std::string> folders = {"a", "srv", "x]\n[PHP]"};
  const std::string locked = php::locked_script(path, folders);
  FUZZ_CHECK(locked.empty() == path.empty());
  if (path.empty())
    return;
  const bool known =
      locked.starts_with("/./") || locked.starts_with("./") || locked.starts_with("/a/") || locked.starts_with("/srv/");
  FUZZ_CHECK(known && locked.ends_with(path.substr(std::min(path.find_first_not_of('/'), path.size() - 1))));
}

void check_chosen(php::ScriptRequest &request, fcgi::Params &params, const php::ScriptRules &rules) {
  const std::string script(request.script());
  FUZZ_CHECK(ends_well(script, rules));
  request.write(params, [](std::string_view chosen, bool) { return php::locked_script(chosen, {"a", "srv"}); });
  // With doc_root and user_dir PHP may run what SCRIPT_NAME names instead; that has been judged, too.
  const std::string path = opened(params);
  FUZZ_CHECK(ends_well(path, rules));
  FUZZ_CHECK(path.find("/../") == std::string::npos);
  FUZZ_CHECK(path == php::locked_script(script, {"a", "srv"}));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  fuzz::Input input(data, size);
  const php::ScriptRules rules = rules_of(input);
  const unsigned present = input.byte();
  const std::size_t length = input.below(256);
  fcgi::Params params;
  for (std::size_t i = 0; i < std::size(kNames); ++i) {
    if ((present >> i & 1U) != 0)
      params.set(kNames[i], a_path(input));
  }
  check_locked(params.get("SCRIPT_FILENAME"));
  php::ScriptRequest request(params, rules);
  ScriptAnswer answer = request.choose();
  if (answer == ScriptAnswer::kLook)
    answer = request.found(length % (request.path().size() + 2));
  FUZZ_CHECK(answer != ScriptAnswer::kLook);
  if (answer == ScriptAnswer::kRun)
    check_chosen(request, params, rules);
  return 0;
}
