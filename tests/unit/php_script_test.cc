#include "php/script_request.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

namespace tqfpm::php {
namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

ScriptRules limited() {
  ScriptRules rules;
  rules.extensions = {".php", ".phar"};
  return rules;
}

fcgi::Params params_of(const Pairs &pairs) {
  std::string content;
  for (const auto &[name, value] : pairs)
    fcgi::append_pair(content, name, value);
  fcgi::Params params;
  EXPECT_EQ(params.assign(content), fcgi::Params::Verdict::kGood);
  return params;
}

// What php-cgi itself finds, and what it makes of all that for scripts: later names first, dots are underscores.
struct Php {
  explicit Php(const fcgi::Params &params) {
    std::vector<std::string> order;
    fcgi::PairReader reader(params.content());
    while (const auto pair = reader.next()) {
      if (!own.contains(std::string(pair->name)))
        order.emplace_back(pair->name);
      own[std::string(pair->name)] = pair->value.substr(0, pair->value.find('\0'));
    }
    for (auto name = order.rbegin(); name != order.rend(); ++name) {
      std::string shown = *name;
      std::replace(shown.begin(), shown.end(), '.', '_');
      server[shown] = own[*name];
    }
  }
  std::map<std::string, std::string> own;
  std::map<std::string, std::string> server;

  // With cgi.fix_pathinfo = 0 and cgi.discard_path = 0.
  [[nodiscard]] std::string runs() const {
    return own.contains("PATH_TRANSLATED")   ? own.at("PATH_TRANSLATED")
           : own.contains("SCRIPT_FILENAME") ? own.at("SCRIPT_FILENAME")
                                             : "";
  }
  [[nodiscard]] std::string self() const {
    return own.contains("PATH_INFO") ? own.at("PATH_INFO") : own.contains("SCRIPT_NAME") ? own.at("SCRIPT_NAME") : "";
  }
};

// Files and folders that there are.
struct Files {
  std::set<std::string> files;
  std::set<std::string> folders;
  [[nodiscard]] std::size_t find(const std::string &path) const {
    return find_script(
        path, [this](const std::string &each) { return files.contains(each) || folders.contains(each); },
        [this](const std::string &each) { return files.contains(each); });
  }
};

struct Outcome {
  ScriptAnswer answer;
  fcgi::Params params;
};
Outcome run(const Pairs &pairs, const ScriptRules &rules, const Files &files = {}) {
  fcgi::Params params = params_of(pairs);
  ScriptRequest script(params, rules);
  ScriptAnswer answer = script.choose();
  if (answer == ScriptAnswer::kLook)
    answer = script.found(files.find(script.path()));
  if (answer == ScriptAnswer::kRun)
    script.write(params, [](std::string_view path, bool) { return std::string(path); });
  return {answer, std::move(params)};
}

TEST(Script, PlainOnesAreLeftAlone) {
  const Pairs sent = {{"SCRIPT_FILENAME", "/srv/a.php"}, {"SCRIPT_NAME", "/a.php"}, {"DOCUMENT_ROOT", "/srv"}};
  const Outcome outcome = run(sent, limited());
  EXPECT_EQ(outcome.answer, ScriptAnswer::kRun);
  EXPECT_EQ(outcome.params.content(), params_of(sent).content());
}

TEST(Script, AnEmptyPathInfoIsNotSeenByPhpItself) {
  const Outcome outcome =
      run({{"SCRIPT_FILENAME", "/srv/a.php"}, {"SCRIPT_NAME", "/a.php"}, {"PATH_INFO", ""}}, limited());
  const Php php(outcome.params);
  EXPECT_EQ(php.self(), "/a.php");
  EXPECT_EQ(php.server.at("PATH_INFO"), "");
  EXPECT_EQ(outcome.params.find("PATH_INFO"), "");
}

TEST(Script, PathInfo) {
  const Outcome outcome = run({{"SCRIPT_FILENAME", "/srv/a.php"},
                               {"SCRIPT_NAME", "/a.php"},
                               {"PATH_INFO", "/x"},
                               {"PATH_TRANSLATED", "/srv/x"}},
                              limited());
  const Php php(outcome.params);
  EXPECT_EQ(php.runs(), "/srv/a.php");
  EXPECT_EQ(php.self(), "/a.php/x");
  EXPECT_EQ(php.server.at("SCRIPT_NAME"), "/a.php");
  EXPECT_EQ(php.server.at("PATH_INFO"), "/x");
  EXPECT_EQ(php.server.at("PATH_TRANSLATED"), "/srv/x");
  EXPECT_EQ(outcome.params.get("SCRIPT_NAME"), "/a.php"); // for the logs, too
  EXPECT_EQ(outcome.params.get("PATH_INFO"), "/x");
}

TEST(Script, ApachesPathIsSplit) {
  const Outcome outcome = run({{"SCRIPT_FILENAME", "proxy:fcgi://127.0.0.1:9000/srv/a.php/x%20y?q=/z.php"},
                               {"SCRIPT_NAME", "/a.php/x y"},
                               {"DOCUMENT_ROOT", "/srv/"}},
                              limited());
  const Php php(outcome.params);
  EXPECT_EQ(php.runs(), "/srv/a.php");
  EXPECT_EQ(php.server.at("SCRIPT_FILENAME"), "/srv/a.php");
  EXPECT_EQ(php.server.at("ORIG_SCRIPT_FILENAME"), "/srv/a.php/x%20y");
  EXPECT_EQ(php.server.at("SCRIPT_NAME"), "/a.php");
  EXPECT_EQ(php.server.at("ORIG_SCRIPT_NAME"), "/a.php/x y");
  EXPECT_EQ(php.server.at("PATH_INFO"), "/x%20y");
  EXPECT_EQ(php.server.at("PATH_TRANSLATED"), "/srv/x%20y");
  EXPECT_EQ(php.self(), "/a.php/x%20y");
}

TEST(Script, NewerPhpsDecodePathInfo) {
  ScriptRules rules = limited();
  rules.decode_path_info = true;
  const Outcome outcome =
      run({{"SCRIPT_FILENAME", "proxy:balancer://php/srv/a.php/%41+"}, {"SCRIPT_NAME", "/a.php/A+"}}, rules);
  EXPECT_EQ(outcome.params.get("PATH_INFO"), "/A+");
  EXPECT_EQ(outcome.params.get("SCRIPT_NAME"), "/a.php");
  // Where Apache knows of one, php-fpm leaves it as it is in the path.
  const Pairs sent = {
      {"SCRIPT_FILENAME", "proxy:fcgi://h/srv/a.php/%41"}, {"SCRIPT_NAME", "/a.php"}, {"PATH_INFO", "/x"}};
  EXPECT_EQ(run(sent, rules).params.get("PATH_INFO"), "/%41");
}

TEST(Script, EncodedPathsWhereThatIsAsked) {
  ScriptRules rules = limited();
  const Pairs sent = {{"SCRIPT_FILENAME", "proxy:fcgi://h/srv/a%20b.php"}, {"SCRIPT_NAME", "/a b.php"}};
  EXPECT_EQ(Php(run(sent, rules).params).runs(), "/srv/a%20b.php");
  rules.decode_path = true;
  EXPECT_EQ(Php(run(sent, rules).params).runs(), "/srv/a b.php");
  // A zero byte ends the name, as it does for PHP: what is judged is what runs.
  EXPECT_EQ(run({{"SCRIPT_FILENAME", "proxy:fcgi://h/srv/evil.jpg%00.php"}}, rules, {{"/srv/evil.jpg"}, {}}).answer,
            ScriptAnswer::kDenied);
  EXPECT_EQ(run({{"SCRIPT_FILENAME", "/srv/a%20b.php"}}, rules).params.get("SCRIPT_FILENAME"), "/srv/a%20b.php");
}

TEST(Script, OnlyWhatIsJudgedRuns) {
  const Files files{{"/srv/evil.jpg", "/srv/a.php", "/srv/upload"}, {"/srv", "/srv/dir.php"}};
  const std::pair<const char *, ScriptAnswer> cases[] = {
      {"/srv/evil.jpg", ScriptAnswer::kDenied},
      {"/srv/evil.jpg/", ScriptAnswer::kDenied},
      {"/srv/evil.jpg/x", ScriptAnswer::kDenied},
      {"/srv/upload", ScriptAnswer::kDenied},
      {"/srv", ScriptAnswer::kDenied},
      {"/srv/none.jpg", ScriptAnswer::kUnknown},
      {"/srv/a.PHP", ScriptAnswer::kUnknown},
      {"/srv/../srv/a.php", ScriptAnswer::kUnknown},
      {"..", ScriptAnswer::kUnknown},
      {"", ScriptAnswer::kDenied},
      {"x.jpg", ScriptAnswer::kUnknown},
      {"/srv/dir.php/b.php", ScriptAnswer::kUnknown},
      {"/srv/a.php/b.php", ScriptAnswer::kRun},
      {"/srv/a.php//", ScriptAnswer::kRun},
      {"/srv/evil.jpg/a.php/b.php", ScriptAnswer::kDenied},
  };
  for (const auto &[path, answer] : cases)
    EXPECT_EQ(run({{"SCRIPT_FILENAME", path}}, limited(), files).answer, answer) << path;
  // Nobody has looked: php-cgi is given exactly this path, and finds nothing.
  EXPECT_EQ(Php(run({{"SCRIPT_FILENAME", "/srv/evil.jpg/x.php"}}, limited(), files).params).runs(),
            "/srv/evil.jpg/x.php");
  EXPECT_EQ(Php(run({{"SCRIPT_FILENAME", "/srv/a.php/b.php"}}, limited(), files).params).runs(), "/srv/a.php");
  EXPECT_EQ(run({{"SCRIPT_NAME", "/a.php"}}, limited()).answer, ScriptAnswer::kUnknown);
}

// Whatever is sent: php-cgi finds no other script than one that has an extension that is allowed.
TEST(Script, NoMixOfParametersRunsAnythingElse) {
  const Files files{{"/s/e.jpg", "/s/a.php"}, {"/s"}};
  const std::string values[] = {
      "/s/e.jpg", "/s/e.jpg/x.php", "/s/a.php/e.jpg", "proxy:fcgi://h/s/e.jpg/a.php", std::string("/s/e.jpg\0.php", 13),
      "",         "/s/a.php"};
  for (const bool fix : {true, false}) {
    for (const bool discard : {true, false}) {
      ScriptRules rules = limited();
      rules.fix_pathinfo = fix;
      rules.discard_path = discard;
      for (const std::string &name : values) {
        for (const std::string &translated : values) {
          for (const char *redirect : {"", "/r"}) {
            Pairs sent = {{"SCRIPT_NAME", "/a.php"}, {"PATH_INFO", "/p"}};
            sent.emplace_back("SCRIPT_FILENAME", name);
            sent.emplace_back("PATH_TRANSLATED", translated);
            if (*redirect != 0)
              sent.emplace_back("REDIRECT_URL", redirect);
            const Outcome outcome = run(sent, rules, files);
            if (outcome.answer == ScriptAnswer::kRun) {
              EXPECT_TRUE(Php(outcome.params).runs().ends_with(".php")) << name << " " << translated;
            }
          }
        }
      }
    }
  }
}

TEST(Script, WithoutALimit) {
  ScriptRules rules;
  const Files files{{"/srv/x.pl", "/srv/a.php"}, {"/srv"}};
  EXPECT_EQ(Php(run({{"SCRIPT_FILENAME", "/srv/x.pl/i"}}, rules, files).params).runs(), "/srv/x.pl");
  fcgi::Params params = params_of({{"SCRIPT_FILENAME", "/srv/a.php"}});
  EXPECT_EQ(ScriptRequest(params, rules).choose(), ScriptAnswer::kRun); // nothing is looked at
  EXPECT_EQ(run({{"SCRIPT_FILENAME", ""}}, rules).answer, ScriptAnswer::kUnknown);
}

TEST(Script, AnotherRoot) {
  ScriptRules rules = limited();
  rules.has_doc_root = true;
  EXPECT_EQ(run({{"SCRIPT_FILENAME", "/srv/a.php"}, {"SCRIPT_NAME", "/e.jpg"}}, rules).answer, ScriptAnswer::kDenied);
  const Outcome outcome =
      run({{"SCRIPT_FILENAME", "/srv/a.php"}, {"SCRIPT_NAME", "/a.php"}, {"PATH_INFO", "/e.jpg"}}, rules);
  EXPECT_EQ(outcome.answer, ScriptAnswer::kRun);
  EXPECT_EQ(Php(outcome.params).self(), "/a.php"); // what is run below doc_root
  rules.has_doc_root = false;
  rules.has_user_dir = true;
  EXPECT_EQ(run({{"SCRIPT_FILENAME", "/srv/a.php"}, {"SCRIPT_NAME", "/~me/e.jpg"}}, rules).answer,
            ScriptAnswer::kDenied);
  EXPECT_EQ(run({{"SCRIPT_FILENAME", "/srv/a.php"}, {"SCRIPT_NAME", "/e.jpg"}}, rules).answer, ScriptAnswer::kRun);
}

// Less path info than there is behind the script, as a newline in the URL makes nginx send it.
TEST(Script, PathInfoThatIsTooShort) {
  const Outcome outcome =
      run({{"SCRIPT_FILENAME", "/srv/a.php/" + std::string(40, 'A')}, {"SCRIPT_NAME", "/a.php"}, {"PATH_INFO", ""}},
          limited());
  const Php php(outcome.params);
  EXPECT_EQ(php.runs(), "/srv/a.php");
  EXPECT_EQ(php.server.at("PATH_INFO"), "");
  EXPECT_EQ(php.server.at("SCRIPT_NAME"), "/a.php");
}

TEST(Script, ParametersThatFitNoRecordAreLeftOut) {
  const std::string big(65000, 'x');
  const Outcome outcome =
      run({{"SCRIPT_FILENAME", "/srv/a.php"}, {"SCRIPT_NAME", "/" + big}, {"PATH_INFO", "/" + big}}, limited());
  EXPECT_EQ(outcome.answer, ScriptAnswer::kRun);
  fcgi::PairReader reader(outcome.params.content());
  while (const auto pair = reader.next())
    EXPECT_LE(pair->encoded.size(), 65535U);
  EXPECT_EQ(outcome.params.get("SCRIPT_NAME"), "/" + big);
}

} // namespace
} // namespace tqfpm::php
