// PHP settings that a web server sends with a request: PHP_VALUE, PHP_ADMIN_VALUE, PHP_FLAG and PHP_ADMIN_FLAG, each
// lines of php.ini, as php-fpm takes them (its manual knows the first two; Magento and others send flags as well).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "config/types.h"

namespace tqfpm::config {

// Most bytes of the four texts together.
inline constexpr std::size_t kMaxWebValues = 16384;

struct WebValues {
  std::vector<KeyValue> user;        // scripts may change them
  std::vector<KeyValue> admin;       // scripts may not
  std::vector<std::string> mistakes; // lines that say nothing: at most nine, the last one with the number of others
  bool too_long = false;             // more than kMaxWebValues: none is read, and the request must not run without them
  [[nodiscard]] bool empty() const { return user.empty() && admin.empty(); }
  // Equal for the same settings in any order.
  [[nodiscard]] std::string key() const;
};

// The texts of the four parameters, "" where one was not sent. Time is linear in them, but for a logarithm.
WebValues web_values(std::string_view value, std::string_view flag, std::string_view admin_value,
                     std::string_view admin_flag);

// The pool with these settings: admin ones replace everything, user ones only what is no admin setting of the pool.
PoolConfig with_web_values(const PoolConfig &pool, const WebValues &values);

} // namespace tqfpm::config
