#include "workers/start_lines.h"

#include "sys/log.h"

namespace tqfpm::workers {

void StartLines::add(const std::string &line) {
  constexpr std::size_t kLines = 1000;
  if (wait_ && lines_.size() < kLines)
    lines_.push_back(line);
  else
    put(line);
}

void StartLines::put(const std::string &line) const {
  // The settings were written for php-fpm: php-cgi has some of its extensions built in.
  if (line.find(" is already loaded") != std::string::npos)
    sys::log().debug("[pool {}] php-cgi said: {}", pool_, line);
  else
    sys::log().warning("[pool {}] php-cgi said: {}", pool_, line);
}

void StartLines::say() {
  if (!wait_)
    return;
  wait_ = false;
  timer_.stop();
  for (const std::string &line : std::exchange(lines_, {}))
    put(line);
}

} // namespace tqfpm::workers
