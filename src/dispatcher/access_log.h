// Writes one line of access.log.
#pragma once

#include "config/types.h"
#include "dispatcher/request.h"
#include "status/access_format.h"
#include "sys/log_sink.h"

namespace tqfpm::dispatcher {

// Writes the request's line to `sink`, unless access.suppress_path asks for silence.
void log_access(sys::LogSink &sink, const status::AccessFormat &format, const config::PoolConfig &pool,
                const Request &request);

} // namespace tqfpm::dispatcher
