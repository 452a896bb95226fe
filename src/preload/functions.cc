// Functions of php-fpm for scripts: fastcgi_finish_request(), fpm_get_status(), and getenv() with all parameters.
//
// A SAPI of PHP can name functions of its own (sapi_module_struct::additional_functions); php-cgi names none when it
// speaks FastCGI. They are set while PHP starts, so that PHP itself registers them as it does with its own: no cost for
// a request, no file that open_basedir or a chroot would hide. What is relied on of PHP is the same from 7.4 to 8.5 and
// is checked before anything is written; an engine that is not known gets no functions.

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "preload/template.h"

extern "C" {
// Of php-cgi; null where it does not export them.
__attribute__((weak)) void php_output_end_all(void);
__attribute__((weak)) int php_header(void);
__attribute__((weak)) void sapi_flush(void);
__attribute__((weak)) const char *get_zend_version(void);
__attribute__((weak)) void *_zend_new_array(uint32_t size);
__attribute__((weak)) void add_assoc_long_ex(void *array, const char *key, size_t key_length, int64_t value);
__attribute__((weak)) void add_assoc_double_ex(void *array, const char *key, size_t key_length, double value);
__attribute__((weak)) void add_assoc_stringl_ex(void *array, const char *key, size_t key_length, const char *text,
                                                size_t length);
__attribute__((weak)) void add_assoc_zval_ex(void *array, const char *key, size_t key_length, void *value);
__attribute__((weak)) void *zend_hash_next_index_insert(void *table, void *value);
extern char sapi_module[] __attribute__((weak));
extern void (*php_load_environment_variables)(void *array) __attribute__((weak)); // not in PHP 7.4
}

namespace tqfpm::preload {

namespace {

// --- what PHP looks like ---------------------------------------------------------------------------------------------

// A zval: 16 bytes, the value, then the type. Types: 2 is false, 3 is true, 7 an array, with 0x300 if it is counted.
struct Zval {
  void *value;
  uint32_t type;
  uint32_t other;
};
void set_bool(void *zval, bool value) {
  static_cast<Zval *>(zval)->type = value ? 3 : 2;
}
void set_array(Zval &zval) {
  zval.value = _zend_new_array(8);
  zval.type = 0x307;
}

using Handler = void (*)(void *execute_data, void *return_value);

// zend_function_entry up to 8.3; from 8.4 on there are two more pointers, which are null for functions like these.
struct FunctionEntry {
  const char *name;
  Handler handler;
  const void *arg_info;
  uint32_t arguments;
  uint32_t flags;
};
constexpr size_t kEntrySize = sizeof(FunctionEntry);
constexpr size_t kEntrySizeFrom84 = kEntrySize + 2 * sizeof(void *);

// zend_internal_arg_info of a function without arguments and without a declared type: all zero.
alignas(8) const char no_arguments[64] = {};

// sapi_module_struct of 64-bit builds of PHP 5.3 to 8.5
constexpr size_t kName = 0;
constexpr size_t kInputFilter = 232;
constexpr size_t kIniEntries = 256;
constexpr size_t kAdditionalFunctions = 264;

const char *pointer_at(size_t offset) {
  const char *value = nullptr;
  memcpy(&value, sapi_module + offset, sizeof value);
  return value;
}

// Bytes of a zend_function_entry; 0: of an engine that is not known. "Zend Engine v4.2.36, ...": 3.4 is PHP 7.4, 4.0 to
// 4.5 are PHP 8.0 to 8.5.
size_t entry_size() {
  constexpr char kWords[] = "Zend Engine v";
  const char *version = get_zend_version();
  if (strncmp(version, kWords, sizeof kWords - 1) != 0)
    return 0;
  version += sizeof kWords - 1;
  if (strncmp(version, "3.4.", 4) == 0)
    return kEntrySize;
  if (version[0] != '4' || version[1] != '.' || version[2] < '0' || version[2] > '5' || version[3] != '.')
    return 0;
  return version[2] < '4' ? kEntrySize : kEntrySizeFrom84;
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

// --- fpm_get_status() ------------------------------------------------------------------------------------------------

// The dispatcher's text, see status/worker_status.h.
struct Reader {
  const char *at;
  const char *end;

  bool take(void *value, size_t size) {
    if (static_cast<size_t>(end - at) < size)
      return false;
    memcpy(value, at, size);
    at += size;
    return true;
  }
  const char *text(size_t length) {
    if (static_cast<size_t>(end - at) < length)
      return nullptr;
    at += length;
    return at - length;
  }
};

bool read_map(Reader &reader, Zval &map);

bool read_list(Reader &reader, Zval &list) {
  char type = 0;
  while (reader.take(&type, 1) && type == 'm') {
    Zval element;
    set_array(element);
    (void)zend_hash_next_index_insert(list.value, &element);
    if (!read_map(reader, element))
      return false;
  }
  return type == 0;
}

bool read_item(Reader &reader, char type, Zval &map) {
  unsigned char key_length = 0;
  const char *key = reader.take(&key_length, 1) ? reader.text(key_length) : nullptr;
  if (key == nullptr)
    return false;
  int64_t number = 0;
  double fraction = 0;
  uint32_t length = 0;
  if (type == 'i' && reader.take(&number, sizeof number)) {
    add_assoc_long_ex(&map, key, key_length, number);
    return true;
  }
  if (type == 'd' && reader.take(&fraction, sizeof fraction)) {
    add_assoc_double_ex(&map, key, key_length, fraction);
    return true;
  }
  if (type == 's' && reader.take(&length, sizeof length)) {
    const char *text = reader.text(length);
    if (text != nullptr)
      add_assoc_stringl_ex(&map, key, key_length, text, length);
    return text != nullptr;
  }
  if (type != 'l')
    return false;
  Zval list;
  set_array(list);
  add_assoc_zval_ex(&map, key, key_length, &list);
  return read_list(reader, list);
}

bool read_map(Reader &reader, Zval &map) {
  char type = 0;
  while (reader.take(&type, 1)) {
    if (type == 0)
      return true;
    if (!read_item(reader, type, map))
      return false;
  }
  return false;
}

// The memory file that the dispatcher answers with; -1: it does not.
int ask_for_status() {
  if (!report(ipc::WorkerReportType::kStatus, ipc::WorkerStage::kNone, 0))
    return -1;
  ipc::ChannelMessage message;
  int fd = -1;
  ssize_t got = 0;
  do
    got = receive(state.channel, &message, sizeof message, &fd, 1);
  while (got < 0 && errno == EINTR);
  return fd;
}

void get_status(void *, void *return_value) {
  set_bool(return_value, false);
  if (state.mode != Mode::kWorker || state.self != getpid())
    return;
  const int fd = ask_for_status();
  if (fd < 0)
    return;
  const off_t size = lseek(fd, 0, SEEK_END);
  void *data = size > 0 ? mmap(nullptr, static_cast<size_t>(size), PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
  close(fd);
  if (data == MAP_FAILED)
    return;
  Zval *result = static_cast<Zval *>(return_value);
  set_array(*result);
  Reader reader{static_cast<const char *>(data), static_cast<const char *>(data) + size};
  (void)read_map(reader, *result);
  munmap(data, static_cast<size_t>(size));
}

// --- getenv() without a name
// -------------------------------------------------------------------------------------------

// php-cgi lets its input filter see each parameter of the request, and ext/filter puts it into $_SERVER instead of into
// the array that getenv() asks for. Its filter is asked for nothing else meanwhile.
using InputFilter = unsigned (*)(int kind, const char *name, char **value, size_t length, size_t *new_length);
constexpr int kEnvironment = 4; // PARSE_ENV
constexpr int kServer = 5;      // PARSE_SERVER
InputFilter own_filter;
void (*own_load)(void *array);

void set_filter(InputFilter filter) {
  memcpy(sapi_module + kInputFilter, &filter, sizeof filter);
}

// 1: the caller registers the variable itself.
unsigned let_through(int kind, const char *name, char **value, size_t length, size_t *new_length) {
  if (kind != kEnvironment && kind != kServer)
    return own_filter(kind, name, value, length, new_length);
  if (new_length != nullptr)
    *new_length = length;
  return 1;
}

void load_environment(void *array) {
  InputFilter filter = nullptr;
  memcpy(&filter, sapi_module + kInputFilter, sizeof filter);
  if (filter != &let_through) // it is after an error in the middle, which PHP leaves by longjmp()
    own_filter = filter;
  set_filter(&let_through);
  own_load(array);
  set_filter(own_filter);
}

void offer_environment() {
  if (&php_load_environment_variables == nullptr || php_load_environment_variables == nullptr)
    return;
  own_load = php_load_environment_variables;
  php_load_environment_variables = &load_environment;
}

// Entries of either size, then one that is all zero.
alignas(8) char functions[3 * kEntrySizeFrom84];
bool offered;

void add_function(size_t offset, const char *name, Handler handler) {
  const FunctionEntry entry = {name, handler, no_arguments, 0, 0};
  memcpy(functions + offset, &entry, sizeof entry);
}

bool has_what_it_needs() {
  return sapi_module != nullptr && &get_zend_version != nullptr && &php_output_end_all != nullptr &&
         &php_header != nullptr && &sapi_flush != nullptr && &_zend_new_array != nullptr &&
         &add_assoc_long_ex != nullptr && &add_assoc_double_ex != nullptr && &add_assoc_stringl_ex != nullptr &&
         &add_assoc_zval_ex != nullptr && &zend_hash_next_index_insert != nullptr;
}

} // namespace

void restore_filter() {
  if (own_filter != nullptr)
    set_filter(own_filter);
}

void offer_functions() {
  if (offered || !has_what_it_needs())
    return;
  // The dispatcher's own setting among php-cgi's: then it has been set up, and its fields are where we think.
  const char *entries = pointer_at(kIniEntries);
  if (entries == nullptr || get_zend_version() == nullptr)
    return; // too early
  offered = true;
  const char *name = pointer_at(kName);
  const size_t size = entry_size();
  if (size == 0 || name == nullptr || strcmp(name, "cgi-fcgi") != 0 || strstr(entries, ipc::kOwnSetting) == nullptr ||
      pointer_at(kAdditionalFunctions) != nullptr)
    return;
  add_function(0, "fastcgi_finish_request", &finish_request);
  add_function(size, "fpm_get_status", &get_status);
  const void *table = functions;
  memcpy(sapi_module + kAdditionalFunctions, &table, sizeof table);
  offer_environment();
}

} // namespace tqfpm::preload
