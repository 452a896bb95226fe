// gendoc: prints what is derived from the directive table: man/tqfpm.conf.5, etc/tqfpm.d/www.conf.default and
// man/php-fpm-directives.md.
//   gendoc --man | --sample | --directives    print one
//   gendoc --check FOLDER                     compare all with the files there; 1 if one is stale
#include <fmt/format.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <sstream>

#include "base/exit_codes.h"
#include "base/text.h"
#include "config/table.h"

namespace {

using namespace tqfpm;
using config::Difference;
using config::Origin;
using config::Row;
using config::Scope;
using config::State;

constexpr char kManHead[] = R"(.\" Made by gendoc from src/config/directives.def: change it there.
.Dd November 24, 2026
.Dt TQFPM.CONF 5
.Os
.Sh NAME
.Nm tqfpm.conf
.Nd configuration of the tqfpm process manager for PHP
.Sh DESCRIPTION
The configuration is written as php-fpm's: sections in brackets, one
.Ar name No = Ar value
a line.
.Dq [global]
holds settings of the whole; each other section is a pool of workers with that name.
A section may occur several times, in several files: later values replace earlier ones.
A semicolon begins a comment, as does
.Sq #
at the start of a line.
.Pp
.Ic include No = Ar pattern
reads other files at this place, in alphabetical order.
A pattern that is not absolute is looked up below the prefix
.Pq option Fl p .
.Pp
Values are bare words, or text in double quotes
.Pq where \e" \e\e and \e$ stand for the character itself
or in single quotes; quoted text may go on over lines.
.No ${ Ns Ar NAME Ns }
is replaced by tqfpm's environment variable.
.Bl -tag -width "octal number"
.It number
Decimal digits.
.It yes | no
Also on and off, true and false, 1 and 0.
.It time
A number with ms, s, m, h or d; seconds without.
.It size
A number of bytes, or with K, M or G.
.It path
A relative one starts at the pool's
.Ic prefix .
.It address
A port, address:port, [IPv6]:port, or the path of a Unix socket.
.It [NAME]
The directive takes a key and may be given once for each.
.El
.Pp
In the values of a pool
.Li $pool
is the name of the pool, and
.Li $prefix ,
at the beginning, its prefix.
.Pp
What is changed takes effect with a reload, see
.Xr tqfpm 8 .
All errors of all files are reported in one run, each with file, line and pool:
.Dl FILE:LINE: [pool www] unknown directive 'listn', did you mean 'listen'?
.Pp
Directives are php-fpm's and mean the same, unless they are marked as
.Em tqfpm's own .
Where one of php-fpm's does more here it says
.Em Better than in php-fpm ,
where it is not the same
.Em Other than in php-fpm .
)";

constexpr char kManTail[] = R"(.Sh EXAMPLES
A pool that is started by its first request, on PHP 8.2:
.Bd -literal -offset indent
[shop]
user = shop
group = shop
listen = /run/tqfpm/shop.sock
listen.group = www-data
pm = ondemand
pm.max_children = 20
php.version = 8.2
php_admin_value[memory_limit] = 128M
.Ed
.Sh SEE ALSO
.Xr tqfpm 8
)";

constexpr char kSampleHead[] = R"(; A pool of tqfpm. Made by gendoc from src/config/directives.def: see tqfpm.conf(5).
; Copy it to a name that ends in .conf and change what you need. Lines with a semicolon show the default,
; or an example where there is none.

[www]
)";

constexpr char kDirectivesHead[] =
    R"(<!-- Made by gendoc from src/config/directives.def: change it there. -->
# php-fpm's directives in tqfpm

All of them, of PHP 8.5's php-fpm. *same*: as there. *better*: the same line gives more. *different*: look before you move;
`tqfpm --migrate` names those that you have set. How they are written, their defaults and ranges: tqfpm.conf(5).
)";

// What the sample sets; everything else is shown with its default, as a comment.
constexpr std::pair<std::string_view, std::string_view> kSampleValues[] = {
    {"user", "www-data"},     {"group", "www-data"},     {"listen", "127.0.0.1:9000"},  {"pm", "dynamic"},
    {"pm.max_children", "5"}, {"pm.start_servers", "2"}, {"pm.min_spare_servers", "1"}, {"pm.max_spare_servers", "3"},
};

std::string_view sample_value(std::string_view name) {
  for (const auto &[key, value] : kSampleValues) {
    if (key == name)
      return value;
  }
  return {};
}

// One sentence a line; none may be taken for a request of the formatter.
std::string roff(const std::string &text) {
  std::string out = replace_all(replace_all(text, "\\", "\\e"), ". ", ".\n");
  if (out.starts_with('.') || out.starts_with('\''))
    out = "\\&" + out;
  return out;
}

std::string range_text(const Row &row) {
  if ((row.range.least == 0 && row.range.most == 0) || row.range.most >= 1000000)
    return "";
  const bool octal = std::strcmp(row.words, "octal number") == 0;
  return octal ? fmt::format(", {:04o} to {:04o}", row.range.least, row.range.most)
               : fmt::format(", {} to {}", row.range.least, row.range.most);
}

const char *word_of(Difference::Kind kind) {
  constexpr const char *kWords[] = {"same", "better", "different"};
  return kWords[static_cast<int>(kind)];
}

std::string difference_text(const Difference &difference) {
  if (difference.kind == Difference::Kind::kSame)
    return "";
  const char *word = difference.kind == Difference::Kind::kBetter ? "Better" : "Other";
  return fmt::format(".Em {} than in php-fpm :\n{}\n", word, roff(difference.why));
}

std::string example_text(const std::string &example) {
  if (example.empty())
    return "";
  return ".Bd -literal -offset indent -compact\n" + replace_all(example, "\\", "\\e") + "\n.Ed\n";
}

std::string see_also_text(const std::string &names) {
  std::string out;
  for (const std::string &name : split(names, ", "))
    out += (out.empty() ? "See also\n.Ic " : " ,\n.Ic ") + name;
  return out.empty() ? "" : out + " .\n";
}

std::string man_row(const Row &row) {
  std::string out = fmt::format(".It Ic {} Pq {}{}", row.name, row.words, range_text(row));
  if (std::strlen(row.by_default) > 0)
    out += fmt::format(" ; default {}", replace_all(roff(row.by_default), "%", "\\&%"));
  out += "\n" + roff(row.doc) + "\n";
  if (row.origin == Origin::kOwn)
    out += ".Em tqfpm's own .\n";
  out += difference_text(row.difference);
  if (row.state == State::kNowhere)
    out += ".Em \\&No effect here .\n";
  return out + see_also_text(row.see_also) + example_text(row.example);
}

std::string man_list(Scope scope, const char *title) {
  std::string out = fmt::format(".Sh {}\n.Bl -tag -width Ds\n", title);
  for (const Row &row : config::table()) {
    if (row.scope == scope)
      out += man_row(row);
  }
  return out + ".El\n";
}

std::string man() {
  return kManHead + man_list(Scope::kGlobal, "GLOBAL DIRECTIVES") + man_list(Scope::kPool, "POOL DIRECTIVES") +
         kManTail;
}

std::string comment(const std::string &text) {
  constexpr std::size_t kWidth = 100;
  std::string out;
  std::string line = ";";
  for (const std::string &word : split(text, " ")) {
    if (line.size() + 1 + word.size() > kWidth) {
      out += line + "\n";
      line = ";";
    }
    line += " " + word;
  }
  return out + line + "\n";
}

// The default, or the example where there is none.
std::string commented_value(const Row &row) {
  if (std::strlen(row.by_default) == 0 && std::strlen(row.example) > 0)
    return ";" + replace_all(row.example, "\n", "\n;") + "\n\n";
  const std::string name = row.array ? std::string(row.name) + "[NAME]" : row.name;
  const bool needs_quotes = std::string_view(row.by_default).find('"') != std::string_view::npos;
  const std::string shown = needs_quotes ? config::quote(row.by_default) : row.by_default;
  return fmt::format(";{} ={}{}\n\n", name, shown.empty() ? "" : " ", shown);
}

std::string sample_row(const Row &row) {
  std::string text = row.doc;
  if (row.origin == Origin::kOwn)
    text += " (tqfpm's own)";
  if (row.state == State::kNowhere)
    text += " (no effect here)";
  const std::string_view value = sample_value(row.name);
  return comment(text) + (value.empty() ? commented_value(row) : fmt::format("{} = {}\n\n", row.name, value));
}

std::string sample() {
  std::string out = kSampleHead;
  for (const Row &row : config::table()) {
    if (row.scope == Scope::kPool)
      out += sample_row(row);
  }
  out.pop_back();
  return out;
}

std::string directives_of(Scope scope) {
  std::string out = "| directive | here | |\n| --- | --- | --- |\n";
  for (const Row &row : config::table()) {
    if (row.scope != scope || row.origin != Origin::kFpm)
      continue;
    out += fmt::format("| `{}` | {} | {} |\n", row.name, word_of(row.difference.kind), row.difference.why);
  }
  return out;
}

std::string own_directives() {
  std::string out;
  for (const Row &row : config::table()) {
    if (row.origin == Origin::kOwn)
      out += fmt::format("{}`{}{}`", out.empty() ? "" : ", ", row.name, row.scope == Scope::kGlobal ? " (global)" : "");
  }
  return out;
}

std::string directives() {
  return std::string(kDirectivesHead) + "\n## [global]\n\n" + directives_of(Scope::kGlobal) + "\n## Pools\n\n" +
         directives_of(Scope::kPool) + "\n## tqfpm's own\n\n" + own_directives() + ". See tqfpm.conf(5).\n";
}

bool same(const std::string &path, const std::string &expected) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  if (file && text.str() == expected)
    return true;
  std::cerr << path << " is not what the directive table says: run make docs\n";
  return false;
}

} // namespace

int main(int argc, char **argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "--man")
    std::cout << man();
  else if (what == "--sample")
    std::cout << sample();
  else if (what == "--directives")
    std::cout << directives();
  else if (what == "--check" && argc == 3) {
    const std::string folder = argv[2];
    const bool man_same = same(folder + "/man/tqfpm.conf.5", man());
    const bool directives_same = same(folder + "/man/php-fpm-directives.md", directives());
    return same(folder + "/etc/tqfpm.d/www.conf.default", sample()) && man_same && directives_same ? 0 : 1;
  } else {
    std::cerr << "usage: gendoc --man | --sample | --directives | --check FOLDER\n";
    return kExitUsage;
  }
  return std::cout.flush() ? 0 : 1;
}
