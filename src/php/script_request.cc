#include "php/script_request.h"

#include <strings.h>

#include <algorithm>

namespace tqfpm::php {

namespace {

constexpr std::string_view kCommon[] = {".php", ".phar"};

// PHP takes parameters for C strings.
std::string_view until_zero(std::string_view value) {
  return value.substr(0, value.find('\0'));
}

std::optional<std::string> get(const fcgi::Params &params, std::string_view name) {
  const auto value = params.find(name);
  return value ? std::optional<std::string>(until_zero(*value)) : std::nullopt;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  if (c >= 'a' && c <= 'f')
    return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

// %41 -> A; anything else stays. What follows a %00 is lost, as in PHP.
std::string url_decoded(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const int high = i + 2 < text.size() && text[i] == '%' ? hex_digit(text[i + 1]) : -1;
    const int low = high >= 0 ? hex_digit(text[i + 2]) : -1;
    if (low >= 0) {
      out += static_cast<char>(high * 16 + low);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return std::string(until_zero(out));
}

// Does a component lead upwards? PHP runs no such script.
bool goes_up(std::string_view path) {
  for (std::size_t at = 0; at != std::string_view::npos;) {
    const std::size_t end = path.find('/', at);
    if (path.substr(at, end == std::string_view::npos ? end : end - at) == "..")
      return true;
    at = end == std::string_view::npos ? end : end + 1;
  }
  return false;
}

} // namespace

ScriptRequest::ScriptRequest(const fcgi::Params &params, const ScriptRules &rules) : rules_(rules) {
  read(params);
  strip_prefix();
  any_ = filename_ || path_translated_;
  path_ = filename_ ? *filename_ : path_translated_.value_or("");
  if (!rules_.fix_pathinfo) {
    if (!rules_.discard_path && path_translated_)
      path_ = *path_translated_;
  } else if (!apache_ && path_translated_ && redirect_url_ && *path_translated_ != path_) {
    path_ = *path_translated_;
    redirected_ = true;
  }
}

void ScriptRequest::read(const fcgi::Params &params) {
  filename_ = get(params, "SCRIPT_FILENAME");
  path_translated_ = get(params, "PATH_TRANSLATED");
  path_info_ = get(params, "PATH_INFO");
  script_name_ = get(params, "SCRIPT_NAME");
  if (path_translated_ || path_info_)
    redirect_url_ = get(params, "REDIRECT_URL");
  if (path_info_ && !path_info_->empty())
    repair_iis(params.get("SERVER_SOFTWARE"));
  document_root_ = get(params, "DOCUMENT_ROOT");
  if (!document_root_ && rules_.fix_pathinfo && !rules_.doc_root.empty()) {
    document_root_ = rules_.doc_root;
    change("DOCUMENT_ROOT", document_root_);
  }
}

// Its PATH_INFO begins with the script's name.
void ScriptRequest::repair_iis(std::string_view software) {
  if (!software.starts_with("Microsoft-IIS") || !script_name_ || !path_info_->starts_with(*script_name_))
    return;
  keep_original("ORIG_PATH_INFO", path_info_);
  path_info_ = path_info_->substr(script_name_->size());
  if (path_info_->empty())
    path_info_.reset();
  change("PATH_INFO", path_info_);
}

// "proxy:fcgi://HOST[:PORT]/path?query" and "proxy:balancer://NAME/path": mod_proxy_fcgi, to a php-fpm.
void ScriptRequest::strip_prefix() {
  for (const std::string_view prefix : {std::string_view("proxy:fcgi://"), std::string_view("proxy:balancer://")}) {
    if (!filename_ || filename_->size() < prefix.size() ||
        ::strncasecmp(filename_->data(), prefix.data(), prefix.size()) != 0)
      continue;
    const std::size_t slash = filename_->find('/', prefix.size());
    if (slash != std::string::npos) {
      filename_->erase(0, slash);
      apache_ = true;
    }
    filename_->resize(std::min(filename_->find('?'), filename_->size()));
    if (apache_ && rules_.decode_path)
      filename_ = url_decoded(*filename_);
    change("SCRIPT_FILENAME", filename_);
  }
}

bool ScriptRequest::allowed(std::string_view path) const {
  return std::any_of(rules_.extensions.begin(), rules_.extensions.end(),
                     [path](const std::string &each) { return path.size() > each.size() && path.ends_with(each); });
}

// Does PHP run what SCRIPT_NAME names in another folder?
bool ScriptRequest::other_root(std::string_view script_name) const {
  return rules_.has_doc_root || (rules_.has_user_dir && script_name.starts_with("/~"));
}

// The script is chosen.
ScriptAnswer ScriptRequest::judge() {
  if (goes_up(script()))
    return ScriptAnswer::kUnknown;
  if (!rules_.extensions.empty() && !allowed(script()))
    return ScriptAnswer::kDenied;
  tell();
  const Text &name = !rules_.fix_pathinfo && path_info_ ? path_info_ : script_name_;
  if (!rules_.extensions.empty() && name && other_root(*name) && !allowed(*name))
    return ScriptAnswer::kDenied;
  return ScriptAnswer::kRun;
}

// A regular file has nothing below it: at most one part of the path is one. Where one part alone may run, no look is
// needed, since php-cgi runs that part or nothing.
ScriptAnswer ScriptRequest::choose() {
  length_ = path_.size();
  const bool limited = !rules_.extensions.empty();
  if (!any_ || (path_.empty() && !limited)) // PHP crashes on an empty name
    return ScriptAnswer::kUnknown;
  if (!rules_.fix_pathinfo || path_.empty())
    return judge();
  const auto may_run = [this, limited](std::string_view part) {
    return limited ? allowed(part) : std::any_of(std::begin(kCommon), std::end(kCommon), [part](std::string_view each) {
      return part.ends_with(each);
    });
  };
  std::size_t candidates = 0;
  const std::string_view path(path_);
  for (std::size_t end = path.size(); end != std::string_view::npos && end > 0; end = path.rfind('/', end - 1)) {
    if (path[end - 1] != '/' && may_run(path.substr(0, end)) && ++candidates == 1)
      length_ = end;
  }
  if (candidates == 1 && (limited || !splits()))
    return judge();
  length_ = path_.size();
  // PHP would look for a relative one in its own folder.
  return path_.front() == '/' ? ScriptAnswer::kLook : ScriptAnswer::kUnknown;
}

ScriptAnswer ScriptRequest::found(std::size_t length) {
  if (length == 0 || length > path_.size())
    return ScriptAnswer::kUnknown;
  length_ = length;
  return judge();
}

bool ScriptRequest::has_path_info() const {
  return rules_.fix_pathinfo && path_info_ && !path_info_->empty();
}

void ScriptRequest::keep_original(const char *name, const Text &value) {
  if (value)
    change(name, value);
}

// What php-fpm tells scripts.
void ScriptRequest::tell() {
  if (!rules_.fix_pathinfo)
    return;
  if (splits())
    tell_split();
  else
    tell_whole();
}

void ScriptRequest::tell_whole() {
  if (!filename_ || path_ != *filename_) {
    keep_original("ORIG_SCRIPT_FILENAME", filename_);
    change("SCRIPT_FILENAME", path_);
  }
  if (!apache_ && redirect_url_) {
    if (path_info_) {
      keep_original("ORIG_PATH_INFO", path_info_);
      path_info_.reset();
      change("PATH_INFO", std::nullopt);
    }
    if (path_translated_) {
      keep_original("ORIG_PATH_TRANSLATED", path_translated_);
      path_translated_.reset();
      change("PATH_TRANSLATED", std::nullopt);
    }
  }
  if (redirected_) {
    keep_original("ORIG_SCRIPT_NAME", script_name_);
    script_name_ = redirect_url_;
    change("SCRIPT_NAME", script_name_);
  }
}

void ScriptRequest::tell_split() {
  const std::string behind = path_.substr(length_);
  const bool longer = path_info_ && path_info_->size() > behind.size();
  const Text sent_name = script_name_;
  if (redirected_)
    script_name_ = redirect_url_;
  const bool moves = apache_ ? !path_info_ || *path_info_ != behind : longer;
  Text part = script_name_; // of the path, where there is no DOCUMENT_ROOT
  if (moves) {
    const bool strips = !path_info_;
    move_path_info(apache_ ? behind : path_info_->substr(path_info_->size() - behind.size()));
    part = strips ? script_name_ : part;
  }
  if (script_name_ != sent_name) {
    keep_original("ORIG_SCRIPT_NAME", sent_name);
    change("SCRIPT_NAME", script_name_);
  }
  if (filename_ != script())
    keep_original("ORIG_SCRIPT_FILENAME", filename_);
  change("SCRIPT_FILENAME", std::string(script()));
  tell_path_translated(part);
}

// PATH_INFO becomes `behind`. What was in front of that in it, where there was one, is the script's name.
void ScriptRequest::move_path_info(const std::string &behind) {
  const bool decodes = rules_.decode_path_info && apache_ && !path_info_ && script_name_;
  if (path_info_) {
    keep_original("ORIG_PATH_INFO", path_info_);
    script_name_ = apache_ ? *path_info_ : path_info_->substr(0, path_info_->size() - behind.size());
  } else if (apache_ && script_name_) {
    strip_script_name(behind);
  }
  path_info_ = decodes ? url_decoded(behind) : behind;
  change("PATH_INFO", path_info_);
}

// With ProxyPass Apache knows of no path info, which then is in SCRIPT_NAME: there decoded.
void ScriptRequest::strip_script_name(const std::string &behind) {
  for (const std::string &end : {behind, url_decoded(behind)}) {
    if (script_name_->size() <= end.size() || !script_name_->ends_with(end))
      continue;
    script_name_->resize(script_name_->size() - end.size());
    return;
  }
}

void ScriptRequest::tell_path_translated(const Text &part) {
  std::string root;
  if (document_root_) {
    root = *document_root_;
    if (root.ends_with('/'))
      root.pop_back();
  } else if (part && script().find(*part) != std::string_view::npos) {
    root = script().substr(0, script().size() - part->size());
  } else {
    return;
  }
  keep_original("ORIG_PATH_TRANSLATED", path_translated_);
  path_translated_ = root + path_info_.value_or("");
  change("PATH_TRANSLATED", path_translated_);
}

// php-cgi (with cgi.fix_pathinfo = 0) would run PATH_TRANSLATED, and take PATH_INFO for the name of the script and for
// PHP_SELF. It does not see them under names that its scripts see as the right ones.
void ScriptRequest::hide(fcgi::Params &params) const {
  if (path_translated_)
    params.hide("PATH_TRANSLATED");
  if (!path_info_)
    return;
  params.hide("PATH_INFO");
  if (path_info_->empty() || !script_name_ || other_root(*script_name_))
    return;
  // What php-cgi makes PHP_SELF of.
  if (params.hide("SCRIPT_NAME"))
    params.add_unseen("SCRIPT_NAME", *script_name_ + *path_info_);
}

void ScriptRequest::write(fcgi::Params &params, const std::string &script) {
  for (const Change &each : changes_) {
    if (each.value)
      params.set(each.name, *each.value);
    else
      params.remove(each.name);
  }
  const bool translated = !rules_.fix_pathinfo && path_translated_ && (!rules_.discard_path || !filename_);
  if (script != this->script())
    params.set(translated ? "PATH_TRANSLATED" : "SCRIPT_FILENAME", script);
  if (rules_.fix_pathinfo)
    hide(params);
  else if (path_translated_ && !translated)
    params.hide("PATH_TRANSLATED");
}

} // namespace tqfpm::php
