#include "master/options.h"

#include <fmt/format.h>
#include <getopt.h>

#include "sys/paths.h"

namespace tqfpm::master {

namespace {

struct Spec {
  const char *name;
  char letter;
  const char *argument; // nullptr: none
  const char *help;
};
constexpr Spec kSpecs[] = {
    {"php-ini", 'c', "<path>|<file>", "php.ini file, or the folder to look for it, for every php-cgi"},
    {"no-php-ini", 'n', nullptr, "no php.ini file is used"},
    {"define", 'd', "foo[=bar]", "php.ini setting foo with value 'bar', for every php-cgi"},
    {"help", 'h', nullptr, "this help"},
    {"info", 'i', nullptr, "PHP information"},
    {"modules", 'm', nullptr, "PHP's modules"},
    {"version", 'v', nullptr, "version number"},
    {"prefix", 'p', "<dir>", "folder that relative paths start from"},
    {"pid", 'g', "<file>", "pid file"},
    {"fpm-config", 'y', "<file>", "configuration file"},
    {"test", 't', nullptr, "test the configuration and exit; twice (-tt): show it, too"},
    {"daemonize", 'D', nullptr, "run in the background, whatever the configuration says"},
    {"nodaemonize", 'F', nullptr, "stay in the foreground"},
    {"force-stderr", 'O', nullptr, "in the foreground: log to standard error"},
    {"allow-to-run-as-root", 'R', nullptr, "let pools run as root (disabled by default)"},
    {"migrate", 'M', "<file>|<dir>|8.2", "write php-fpm's configuration as tqfpm's, and report"},
    {"to", 'T', "<dir>", "folder for --migrate, ./tqfpm-migrated by default"},
};

std::string short_options() {
  std::string text = ":"; // errors are ours
  for (const Spec &spec : kSpecs) {
    text += spec.letter;
    if (spec.argument != nullptr)
      text += ':';
  }
  return text;
}

std::vector<option> long_options() {
  std::vector<option> options;
  for (const Spec &spec : kSpecs)
    options.push_back({spec.name, spec.argument != nullptr ? required_argument : no_argument, nullptr, spec.letter});
  options.push_back({nullptr, 0, nullptr, 0});
  return options;
}

void apply(Options &options, int letter, const char *argument) {
  switch (letter) {
  case 'c':
    options.php.ini_path = argument;
    return;
  case 'n':
    options.php.no_ini = true;
    return;
  case 'd':
    options.php.defines.emplace_back(argument);
    return;
  case 'h':
    options.help = true;
    return;
  case 'i':
    options.info = true;
    return;
  case 'm':
    options.modules = true;
    return;
  case 'v':
    options.version = true;
    return;
  case 'p':
    options.prefix = argument;
    return;
  case 'g':
    options.pid_file = argument;
    return;
  case 'y':
    options.config_path = argument;
    return;
  case 't':
    ++options.test;
    return;
  case 'D':
  case 'F':
    options.daemonize = letter == 'D';
    return;
  case 'O':
    options.force_stderr = true;
    return;
  case 'R':
    options.allow_root = true;
    return;
  case 'M':
    options.migrate = argument;
    return;
  case 'T':
    options.migrate_to = argument;
    return;
  default:
    return;
  }
}

} // namespace

Result<Options> parse_options(int argc, char **argv) {
  Options options;
  const std::string letters = short_options();
  const std::vector<option> longs = long_options();
  optind = 1;
  while (true) {
    const int at = optind;
    const int letter = ::getopt_long(argc, argv, letters.c_str(), longs.data(), nullptr);
    if (letter == -1)
      break;
    if (letter == '?' || letter == ':')
      return Error{fmt::format("{} '{}'", letter == ':' ? "a value is missing after" : "unknown option",
                               at < argc ? argv[at] : "")};
    apply(options, letter, optarg);
  }
  if (optind < argc)
    return Error{fmt::format("'{}' is no option", argv[optind])};
  if (options.config_path.empty())
    options.config_path = sys::default_config();
  return options;
}

std::string usage(const std::string &program) {
  const std::string name = program.substr(program.rfind('/') + 1);
  std::string text = fmt::format("Usage: {} [-himvtnDFOR] [-y <file>] [-p <prefix>] [-g <pid>] [-c <file>] "
                                 "[-d foo[=bar]]\n       {} -M <file>|<dir>|8.2 [-T <dir>]\n",
                                 name, name);
  for (const Spec &spec : kSpecs) {
    const std::string value = spec.argument != nullptr ? std::string(" ") + spec.argument : "";
    text += fmt::format("  -{}, --{:<32}{}\n", spec.letter, spec.name + value, spec.help);
  }
  return text + fmt::format("Default configuration: {}\n", sys::default_config());
}

} // namespace tqfpm::master
