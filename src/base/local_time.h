// Times of day for people: in logs and on the status page.
#pragma once

#include <ctime>
#include <string>

namespace tqfpm {

// How a line of the error log and of the slow log begins, as in php-fpm.
inline constexpr char kLogTime[] = "%d-%b-%Y %H:%M:%S";

// As on the status page and, unless told otherwise, in access.log.
inline constexpr char kAccessTime[] = "%d/%b/%Y:%H:%M:%S %z";

// `when` in the zone of this process as strftime(3) writes it; "" where that takes more than 255 bytes.
std::string local_time(std::time_t when, const char *format);

} // namespace tqfpm
