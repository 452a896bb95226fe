// The name in an Authorization header.
#pragma once

#include <string>
#include <string_view>

namespace tqfpm::php {

// The user of "Basic BASE64(user:password)"; "" for anything else.
std::string basic_user(std::string_view authorization);

} // namespace tqfpm::php
