#include "master/commands.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "config/dump.h"
#include "master/master.h"
#include "master/migrate.h"
#include "master/options.h"
#include "php/constants.h"
#include "sys/files.h"
#include "sys/log.h"
#include "sys/paths.h"
#include "sys/privileges.h"
#include "sys/process.h"

namespace tqfpm::master {

namespace {

void print(const std::string &text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

// --- -v, -i, -m: what the pools' PHP says
// ------------------------------------------------------------------------------

int ask_php(const Options &options, const std::vector<std::string> &question) {
  config::PoolConfig none;
  const auto binary = find_php(none, options.config_path);
  if (!binary.ok()) {
    print(fmt::format("tqfpm {}\n{}\n", sys::kVersion, binary.error().message));
    return 1;
  }
  std::vector<std::string> arguments = options.php.arguments();
  arguments.insert(arguments.end(), question.begin(), question.end());
  const auto output = run_php(binary.value(), arguments);
  if (!output.ok()) {
    print(output.error().message + "\n");
    return 1;
  }
  std::string text = output.value().text;
  // php-cgi serves here as php-fpm would: scripts that look for an FPM in the first line find it.
  if (const std::size_t at = text.find("(cgi-fcgi)"); at != std::string::npos && at < text.find('\n'))
    text.replace(at, strlen("(cgi-fcgi)"), fmt::format("(fpm-fcgi; tqfpm {})", sys::kVersion));
  print(text);
  return 0;
}

// --- -t, -tt ------------------------------------------------------------------------------------------------------

sys::Level level_of(config::Severity severity) {
  switch (severity) {
  case config::Severity::kNotice:
    return sys::Level::kNotice;
  case config::Severity::kWarning:
    return sys::Level::kWarning;
  case config::Severity::kError:
    return sys::Level::kError;
  }
  return sys::Level::kError;
}

void log_messages(const config::LoadResult &loaded) {
  for (const config::Message &message : loaded.messages)
    sys::log().line(level_of(message.severity), message.str());
}

// Do standard output and error go to the same place?
bool one_output() {
  struct stat out {};
  struct stat err {};
  return ::fstat(STDOUT_FILENO, &out) == 0 && ::fstat(STDERR_FILENO, &err) == 0 && out.st_dev == err.st_dev &&
         out.st_ino == err.st_ino;
}

// As php-fpm into the log; where standard output goes elsewhere, also there, as a file that loads again to the same.
void show(const config::Config &config) {
  const auto e_all = [](const config::PoolConfig &pool) {
    const auto version = php_version(pool);
    return php::e_all_of(version.ok() ? version.value() : "");
  };
  for (const std::string &line : config::dump_for_log(config, e_all))
    sys::log().notice("{}", line);
  if (!one_output())
    print(config::dump(config));
}

int test(const Options &options) {
  const config::LoadResult loaded = load_configuration(options);
  log_messages(loaded);
  if (!loaded.ok()) {
    sys::log().error("FPM initialization failed");
    return kExitConfig;
  }
  if (options.test > 1)
    show(loaded.config);
  sys::log().notice("configuration file {} test is successful", options.config_path);
  return 0;
}

// --- running --------------------------------------------------------------------------------------------------------

Status open_error_log(const Options &options, const config::GlobalConfig &global) {
  sys::log().set_level(static_cast<sys::Level>(global.log_level));
  sys::log().set_json(global.log_format == config::LogFormat::kJson);
  const bool used = uses_error_log(options, global);
  if (global.error_log == "syslog") {
    if (used)
      sys::log().take_syslog(global.syslog_ident, syslog_facility(global.syslog_facility));
    else
      sys::log().take(sys::own_description(STDERR_FILENO));
    return success();
  }
  auto fd = sys::open_log(global.error_log); // as php-fpm: the file is there, even if nothing is written to it
  if (!used)
    sys::log().take(sys::own_description(STDERR_FILENO));
  else if (!fd.ok())
    return fd.error();
  else
    sys::log().take(std::move(fd.value()));
  return success();
}

// The calling process waits for one byte and exits with it. In the daemon: the write end.
Result<sys::Fd> daemonize() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0)
    return Error{std::string("cannot create a pipe: ") + strerror(errno), errno};
  sys::Fd reader(fds[0]);
  sys::Fd writer(fds[1]);
  const pid_t pid = ::fork();
  if (pid < 0)
    return Error{std::string("cannot fork: ") + strerror(errno), errno};
  if (pid > 0) {
    writer.reset();
    char code = 1;
    ssize_t got = 0;
    do
      got = ::read(reader.get(), &code, 1);
    while (got < 0 && errno == EINTR);
    ::_exit(got == 1 ? code : kExitConfig); // closed without a word: it has said why in the log
  }
  ::setsid();
  return writer;
}

// A daemon holds no terminal.
void leave_terminal() {
  const sys::Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  (void)::dup2(null.get(), 0);
  (void)::dup2(null.get(), 1);
  (void)::dup2(null.get(), 2);
}

int refuse(const std::string &why) {
  sys::log().error("{}", why);
  sys::log().error("FPM initialization failed");
  sys::log().sink().finish(seconds(1));
  return kExitConfig;
}

// The files were good when the image before checked them; if they have changed since, its own configuration stays.
config::Config usable_config(config::LoadResult &loaded, Inheritance &inheritance) {
  if (loaded.ok())
    return std::move(loaded.config);
  inheritance.refused = true;
  config::TextSource source(inheritance.config_text);
  config::LoadRequest request;
  request.path = "the configuration before";
  return config::load(request, source).config;
}

int run(const Options &options, int argc, char **argv) {
  sys::protect_open_descriptors();
  Inheritance inheritance = take_inheritance();
  const bool reloaded = inheritance.reloaded;
  config::LoadResult loaded = load_configuration(options);
  if (!loaded.ok() && !reloaded) {
    log_messages(loaded);
    sys::log().error("FPM initialization failed");
    return kExitConfig;
  }
  config::Config config = usable_config(loaded, inheritance);
  ::umask(022);
  if (auto status = open_error_log(options, config.global); !status.ok() && !reloaded)
    return refuse(status.error().message);
  const bool background = options.daemonize.value_or(config.global.daemonize);
  if (!reloaded && uses_error_log(options, config.global)) // until the pools serve: for whoever started it
    sys::log().set_echo(background ? sys::Level::kWarning : sys::Level::kNotice);
  log_messages(loaded);
  for (const InheritedSocket &each : inheritance.sockets)
    sys::log().notice("using inherited socket fd={}, \"{}\"", each.fd.get(), each.address);
  if (inheritance.refused)
    sys::log().error("the configuration changed during the reload and cannot be used: everything goes on as it was");
  sys::Fd readiness;
  if (background && !reloaded) {
    auto pipe = daemonize();
    if (!pipe.ok())
      return refuse(pipe.error().message);
    readiness = std::move(pipe.value());
  }
  Master master(options, std::vector<std::string>(argv, argv + argc), std::move(config), std::move(inheritance));
  if (readiness.valid())
    master.report_readiness_to(std::move(readiness), &leave_terminal);
  const int code = master.run();
  sys::log().sink().finish(seconds(1));
  return code;
}

} // namespace

int master_main(int argc, char **argv) {
  sys::keep_ends_of_children();
  const std::string program = argc > 0 ? argv[0] : "tqfpm";
  auto parsed = parse_options(argc, argv);
  if (!parsed.ok()) {
    print(usage(program));
    std::fprintf(stderr, "%s\n", parsed.error().message.c_str());
    return kExitUsage;
  }
  const Options &options = parsed.value();
  if (options.help) {
    print(usage(program));
    return 0;
  }
  if (options.version)
    return ask_php(options, {"-v"});
  if (options.info)
    return ask_php(options, {"-i"});
  if (options.modules)
    return ask_php(options, {"-m"});
  if (!options.migrate.empty())
    return migrate(options);
  if (options.test > 0)
    return test(options);
  return run(options, argc, argv);
}

} // namespace tqfpm::master
