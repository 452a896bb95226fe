#include "status/worker_status.h"

#include "status/pool_fields.h"

namespace tqfpm::status {

namespace {

template <typename T> void append_raw(std::string &out, const T &value) {
  out.append(reinterpret_cast<const char *>(&value), sizeof value);
}

void item(std::string &out, char type, std::string_view key) {
  out += type;
  out += static_cast<char>(key.size());
  out += key;
}

void integer(std::string &out, std::string_view key, std::uint64_t value) {
  item(out, 'i', key);
  append_raw(out, static_cast<std::int64_t>(value));
}

void number(std::string &out, std::string_view key, double value) {
  item(out, 'd', key);
  append_raw(out, value);
}

void text(std::string &out, std::string_view key, std::string_view value) {
  item(out, 's', key);
  append_raw(out, static_cast<std::uint32_t>(value.size()));
  out += value;
}

void fields(std::string &out, const std::vector<Field> &fields) {
  for (const Field &field : fields) {
    const std::string key = joined_words(field.name, '-');
    if (const auto *moment = std::get_if<Moment>(&field.value))
      integer(out, key, static_cast<std::uint64_t>(moment->when));
    else if (const auto *count = std::get_if<std::uint64_t>(&field.value))
      integer(out, key, *count);
    else if (const auto *real = std::get_if<double>(&field.value))
      number(out, key, *real);
    else
      text(out, key, std::get<std::string>(field.value));
  }
}

} // namespace

std::string fpm_status(const PoolState &state) {
  std::string out;
  fields(out, pool_fields(state));
  item(out, 'l', "procs");
  for (const WorkerView &view : state.workers) {
    out += 'm';
    fields(out, worker_status_fields(view));
    out += '\0';
  }
  out += '\0';
  out += '\0';
  return out;
}

} // namespace tqfpm::status
