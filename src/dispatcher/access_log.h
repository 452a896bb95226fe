// Writes one line of access.log.
#pragma once

#include "config/types.h"
#include "dispatcher/request.h"
#include "status/access_format.h"

namespace tqfpm::dispatcher {

// Writes the request's line to `fd`, unless access.suppress_path asks for silence. What cannot be written is lost.
void log_access(int fd, const status::AccessFormat &format, const config::PoolConfig &pool, const Request &request);

} // namespace tqfpm::dispatcher
