// Errors are values: a function that can fail returns Result<T>.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <variant>

namespace tqfpm {

// What went wrong, in words for the operator; `code` is an errno value or 0.
struct Error {
  std::string message;
  int code = 0;
};

// An impossible state: says where and aborts, so that a core shows the cause.
[[noreturn]] inline void impossible(const char *file, int line, const char *what) {
  std::fprintf(stderr, "%s:%d: impossible: %s\n", file, line, what);
  std::abort();
}
#define TQFPM_ASSERT(condition)                                                                                        \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      ::tqfpm::impossible(__FILE__, __LINE__, #condition); /*NOLINT*/                                                  \
    }                                                                                                                  \
  } while (false)

// A value or an Error. Ask ok() before value() or error(): the wrong one aborts.
template <typename T> class [[nodiscard]] Result {
public:
  Result(T value) : state_(std::move(value)) {}     // NOLINT(google-explicit-constructor)
  Result(Error error) : state_(std::move(error)) {} // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool ok() const { return std::holds_alternative<T>(state_); }
  explicit operator bool() const { return ok(); }

  [[nodiscard]] T &value() & {
    TQFPM_ASSERT(ok());
    return *std::get_if<T>(&state_);
  }
  [[nodiscard]] const T &value() const & {
    TQFPM_ASSERT(ok());
    return *std::get_if<T>(&state_);
  }
  [[nodiscard]] T &&value() && {
    TQFPM_ASSERT(ok());
    return std::move(*std::get_if<T>(&state_));
  }
  [[nodiscard]] const Error &error() const {
    TQFPM_ASSERT(!ok());
    return *std::get_if<Error>(&state_);
  }

private:
  std::variant<T, Error> state_;
};

struct Unit {};
using Status = Result<Unit>;
inline Status success() {
  return Unit{};
}

} // namespace tqfpm
