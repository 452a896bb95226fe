// What a request's parameters say of it, for pages and logs.
#pragma once

#include <string>
#include <string_view>

#include "fcgi/params.h"

namespace tqfpm::php {

// The path that a request names, as the ping and status paths are compared with it.
std::string_view request_path(const fcgi::Params &params);
// The user of HTTP's basic authentication, as PHP sees it; "" if there is none.
std::string request_user(const fcgi::Params &params);

} // namespace tqfpm::php
