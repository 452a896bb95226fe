// Which script a request runs, and what the script is told about it: as php-fpm decides it, from the web server's
// parameters. php-cgi decides nothing (see src/README.md, "Scripts").
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fcgi/params.h"

namespace tqfpm::php {

struct ScriptRules {
  bool fix_pathinfo = true;            // cgi.fix_pathinfo
  bool discard_path = false;           // cgi.discard_path
  bool decode_path = false;            // fastcgi.script_path_encoded = 0
  bool decode_path_info = false;       // newer PHPs decode what they find behind the script in Apache's paths
  bool has_doc_root = false;           // doc_root: PHP runs what SCRIPT_NAME names below it
  bool has_user_dir = false;           // user_dir: so it does with SCRIPT_NAMEs that begin with /~
  std::string doc_root;                // where it is known; stands for a DOCUMENT_ROOT that is not sent
  std::vector<std::string> extensions; // security.limit_extensions; empty: no limit
};

enum class ScriptAnswer {
  kRun,     // script() runs, nothing else can
  kLook,    // it depends on which part of path() is a file: find that out and call found()
  kDenied,  // security.limit_extensions: script()
  kUnknown, // there is no script
};

class ScriptRequest {
public:
  ScriptRequest(const fcgi::Params &params, const ScriptRules &rules);

  // What can be said without looking at files.
  ScriptAnswer choose();
  // What a look has found: the first `length` bytes of path() are the script; 0: there is none.
  ScriptAnswer found(std::size_t length);
  // As the web server names the script, perhaps with path info behind it.
  [[nodiscard]] const std::string &path() const { return path_; }
  [[nodiscard]] std::string_view script() const { return std::string_view(path_).substr(0, length_); }
  // Sets in `params` (the ones that this was made from) what php-cgi gets for the script that has been chosen. A view
  // that `relocate` returns takes the script's place: the same file by another path. It is told whether the script has
  // path info.
  template <typename Relocate> void write(fcgi::Params &params, const Relocate &relocate) {
    write(params, relocate(script(), has_path_info()));
  }

private:
  using Text = std::optional<std::string>;
  struct Change {
    const char *name;
    Text value; // none: the parameter goes
  };

  void read(const fcgi::Params &params);
  void repair_iis(std::string_view software);
  void strip_prefix();
  [[nodiscard]] bool allowed(std::string_view path) const;
  ScriptAnswer judge();
  [[nodiscard]] bool has_path_info() const;
  [[nodiscard]] bool splits() const { return length_ < path_.size(); }
  [[nodiscard]] bool other_root(std::string_view script_name) const;
  void change(const char *name, Text value) { changes_.push_back({name, std::move(value)}); }
  void keep_original(const char *name, const Text &value);
  void tell();
  void tell_whole();
  void tell_split();
  void move_path_info(const std::string &behind);
  void strip_script_name(const std::string &behind);
  void tell_path_translated(const Text &part);
  void hide(fcgi::Params &params) const;
  void write(fcgi::Params &params, const std::string &script);

  const ScriptRules &rules_;
  // The web server's parameters; later: what scripts see.
  Text filename_;
  Text path_translated_;
  Text path_info_;
  Text script_name_;
  Text document_root_;
  Text redirect_url_;
  bool apache_ = false;     // mod_proxy_fcgi's prefix was there
  bool redirected_ = false; // PATH_TRANSLATED stands for SCRIPT_FILENAME
  bool any_ = false;        // the web server has named a script
  std::string path_;
  std::size_t length_ = 0; // of the script in path_
  std::vector<Change> changes_;
};

// Which part of `path` php-fpm takes for the script: all of it if that exists, else the longest part up to a slash that
// is a regular file; 0: none. `exists` and `is_file` look at a path.
template <typename Exists, typename IsFile>
std::size_t find_script(const std::string &path, const Exists &exists, const IsFile &is_file) {
  if (!path.empty() && path.back() != '/' && exists(path))
    return path.size();
  for (std::size_t end = path.rfind('/'); end != std::string::npos && end > 0; end = path.rfind('/', end - 1)) {
    if (is_file(path.substr(0, end)))
      return end;
  }
  return 0;
}

} // namespace tqfpm::php
