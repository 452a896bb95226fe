// Functions of php-fpm for scripts: fastcgi_finish_request().
//
// A SAPI of PHP can name functions of its own (sapi_module_struct::additional_functions); php-cgi names none when it
// speaks FastCGI. They are set while PHP starts, so that PHP itself registers them as it does with its own: no cost for
// a request, no file that open_basedir or a chroot would hide. What is relied on of PHP is the same from 7.4 to 8.5 and
// is checked before anything is written; an engine that is not known gets no functions.

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "template/template.h"

extern "C" {
// Of php-cgi; null where it does not export them.
__attribute__((weak)) void php_output_end_all(void);
__attribute__((weak)) int php_header(void);
__attribute__((weak)) void sapi_flush(void);
__attribute__((weak)) const char *get_zend_version(void);
extern char sapi_module[] __attribute__((weak));
}

namespace tqfpm::preload {

namespace {

// --- what PHP looks like ---------------------------------------------------------------------------------------------

// A zval: 16 bytes, the type at 8; 2 is false, 3 is true.
void set_bool(void *zval, bool value) {
  const uint32_t type = value ? 3 : 2;
  memcpy(static_cast<char *>(zval) + 8, &type, sizeof type);
}

using Handler = void (*)(void *execute_data, void *return_value);

// zend_function_entry up to 8.3; later ones have two more pointers, which are null for functions like these.
struct FunctionEntry {
  const char *name;
  Handler handler;
  const void *arg_info;
  uint32_t arguments;
  uint32_t flags;
};

// Room for two entries of either size: one function and the end, which is all zero.
struct FunctionTable {
  FunctionEntry first;
  char rest[96];
};

// zend_internal_arg_info of a function without arguments and without a declared type: all zero.
alignas(8) const char no_arguments[64] = {};

// sapi_module_struct of 64-bit builds of PHP 5.3 to 8.5
constexpr size_t kName = 0;
constexpr size_t kIniEntries = 256;
constexpr size_t kAdditionalFunctions = 264;

const char *pointer_at(size_t offset) {
  const char *value = nullptr;
  memcpy(&value, sapi_module + offset, sizeof value);
  return value;
}

// "Zend Engine v4.2.36, ...": 3.4 is PHP 7.4, 4.0 to 4.5 are PHP 8.0 to 8.5.
bool known_engine() {
  constexpr char kWords[] = "Zend Engine v";
  const char *version = get_zend_version();
  if (strncmp(version, kWords, sizeof kWords - 1) != 0)
    return false;
  version += sizeof kWords - 1;
  const bool seven = strncmp(version, "3.4.", 4) == 0;
  const bool eight =
      version[0] == '4' && version[1] == '.' && version[2] >= '0' && version[2] <= '5' && version[3] == '.';
  return seven || eight;
}

// --- fastcgi_finish_request() ----------------------------------------------------------------------------------------

bool write_all(int fd, const void *data, size_t size) {
  const char *at = static_cast<const char *>(data);
  while (size > 0) {
    const ssize_t sent = send(fd, at, size, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR)
      continue;
    if (sent <= 0)
      return false;
    at += sent;
    size -= static_cast<size_t>(sent);
  }
  return true;
}

// All output goes out, then a record of our own tells the dispatcher that the answer is complete. In the connection: so
// it comes after the output and before the end of the request, and it is no output that a script could write.
void finish_request(void *, void *return_value) {
  bool done = false;
  if (state.mode == Mode::kWorker && state.self == getpid() && state.connection >= 0 && !state.finished) {
    php_output_end_all();
    (void)php_header();
    sapi_flush();
    const unsigned char record[8] = {1, ipc::kFinishedRecord, 0, 1, 0, 0, 0, 0};
    done = write_all(state.connection, record, sizeof record);
    state.finished = true;
  }
  set_bool(return_value, done);
}

FunctionTable table;
bool offered;

} // namespace

void offer_functions() {
  if (offered || sapi_module == nullptr || &get_zend_version == nullptr || &php_output_end_all == nullptr ||
      &php_header == nullptr || &sapi_flush == nullptr)
    return;
  // The dispatcher's own setting among php-cgi's: then it has been set up, and its fields are where we think.
  const char *entries = pointer_at(kIniEntries);
  if (entries == nullptr || get_zend_version() == nullptr)
    return; // too early
  offered = true;
  const char *name = pointer_at(kName);
  if (!known_engine() || name == nullptr || strcmp(name, "cgi-fcgi") != 0 ||
      strstr(entries, ipc::kOwnSetting) == nullptr || pointer_at(kAdditionalFunctions) != nullptr)
    return;
  table.first = {"fastcgi_finish_request", &finish_request, no_arguments, 0, 0};
  const void *functions = &table;
  memcpy(sapi_module + kAdditionalFunctions, &functions, sizeof functions);
}

} // namespace tqfpm::preload
