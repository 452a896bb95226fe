#include "base/local_time.h"

namespace tqfpm {

std::string local_time(std::time_t when, const char *format) {
  std::tm parts{};
  ::localtime_r(&when, &parts);
  char text[256];
  return {text, std::strftime(text, sizeof text, format, &parts)};
}

} // namespace tqfpm
