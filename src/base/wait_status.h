// How a process has ended, in php-fpm's words.
#pragma once

#include <string>

namespace tqfpm {

// For a status of waitpid(2): "exited with code 3" or "exited on signal 11 (SIGSEGV - core dumped)".
std::string end_text(int wait_status);
// It ended by itself, with code 0.
bool ended_well(int wait_status);

} // namespace tqfpm
