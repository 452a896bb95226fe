// Lines for regular files, written by a thread: a file has no O_NONBLOCK, and who writes to a disk that stands, waits.
//
// The thread begins with the first line, takes no signals and shares nothing with the rest but what it works on, which
// both own: on a disk that stands for ever the writer goes and leaves the thread behind. It does not survive fork(): a
// child must not use the writers of its parent.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "base/clock.h"
#include "sys/fd.h"

namespace tqfpm::sys {

// An error of write(): not now, but perhaps later.
bool is_temporary(int code);

class FileWriter {
public:
  static constexpr std::size_t kRoom = 16U << 20;
  using Write = std::function<ssize_t(int fd, const char *data, std::size_t size)>;

  explicit FileWriter(Write write); // write(2), or a test's
  ~FileWriter();                    // waits a moment for what is not written yet
  FileWriter(const FileWriter &) = delete;
  FileWriter &operator=(const FileWriter &) = delete;

  // Lines go here from now on. The file before gets its own lines, unless it is full, and is closed by the thread, too.
  void use(Fd file);
  // Of the newest file. It stays open until there is a newer one.
  [[nodiscard]] int fd() const { return fd_; }
  // A whole line with its newline; it is lost where there is no room. Returns owes().
  bool add(std::string_view line);
  void add_lost(std::uint64_t lines);
  [[nodiscard]] bool owes() const; // lines were lost that take_lost() has not returned yet
  // The lines that were lost, once lines are written again: there is room then to tell of them.
  std::uint64_t take_lost();
  // The same, but only where the disk keeps up: whoever has been kept waiting in vain is not again, until all is
  // written.
  void catch_up(Duration patience);
  // Until all is written, but not longer than `patience`. False: it is not.
  bool wait(Duration patience);
  // A call is under way that has not come back. While the disk stands neither exec nor exit get past it.
  [[nodiscard]] bool in_call() const;

private:
  struct Work;
  bool start();

  std::shared_ptr<Work> work_;
  int fd_ = -1;
};

} // namespace tqfpm::sys
