// A configuration that loads means the same after dump(): that is how it goes to dispatchers and through a reload.
#include "config/dump.h"
#include "config/load.h"
#include "input.h"

namespace {

using namespace tqfpm;

std::optional<std::string> environment(const std::string &name) {
  return name.size() < 4 ? std::optional<std::string>("e" + name) : std::nullopt;
}

config::LoadResult loaded(const std::string &text, bool again) {
  config::TextSource source(text);
  config::LoadRequest request;
  request.path = "/etc/tqfpm.conf";
  request.default_prefix = "/usr";
  request.default_error_log = "/var/log/tqfpm.log";
  request.keep_environment = again;
  request.environment = environment;
  return config::load(request, source);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  const std::string text(reinterpret_cast<const char *>(data), size);
  const config::LoadResult first = loaded(text, false);
  for (const config::Message &each : first.messages)
    FUZZ_CHECK(!each.text.empty() && !each.str().empty());
  (void)config::dump_for_log(first.config, [](const config::PoolConfig &) { return 32767; });
  if (!first.ok())
    return 0;
  const std::string written = config::dump(first.config);
  const config::LoadResult second = loaded(written, true);
  FUZZ_CHECK(second.ok());
  FUZZ_CHECK(second.config == first.config);
  FUZZ_CHECK(config::dump(second.config) == written);
  for (const config::PoolConfig &pool : first.config.pools) {
    const config::LoadResult alone = loaded(config::dump_pool(first.config, pool), true);
    FUZZ_CHECK(alone.ok() && alone.config.pools.size() == 1 && alone.config.pools.front() == pool);
  }
  return 0;
}
