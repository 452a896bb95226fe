#include "php/request_facts.h"

#include "php/basic_user.h"

namespace tqfpm::php {

std::string_view request_path(const fcgi::Params &params) {
  std::string_view path = params.get("SCRIPT_NAME");
  if (path.empty()) {
    path = params.get("REQUEST_URI");
    path = path.substr(0, path.find('?'));
  }
  return path;
}

std::string request_user(const fcgi::Params &params) {
  return basic_user(params.get("HTTP_AUTHORIZATION"));
}

} // namespace tqfpm::php
