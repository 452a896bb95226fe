#include "sys/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace tqfpm::sys {

namespace {
Error failure(const std::string &name) {
  return Error{"cannot create shared memory '" + name + "': " + strerror(errno), errno};
}
} // namespace

Result<Fd> memory_file(const std::string &name, std::size_t size) {
  Fd fd(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid() || ::ftruncate(fd.get(), static_cast<off_t>(size)) != 0 ||
      ::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    return failure(name);
  return fd;
}

Result<Fd> sealed_text(const std::string &name, std::string_view content) {
  Fd fd(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid())
    return failure(name);
  while (!content.empty()) {
    const ssize_t written = ::write(fd.get(), content.data(), content.size());
    if (written < 0 && errno == EINTR)
      continue;
    if (written <= 0)
      return failure(name);
    content.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0)
    return failure(name);
  return fd;
}

Result<Mapping> Mapping::map(int fd, std::size_t size) {
  struct stat info {};
  if (::fstat(fd, &info) != 0 || static_cast<std::size_t>(info.st_size) < size)
    return Error{"shared memory is smaller than " + std::to_string(size) + " bytes", EINVAL};
  void *data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED)
    return Error{std::string("cannot map shared memory: ") + strerror(errno), errno};
  return Mapping(data, size);
}

Mapping::Mapping(Mapping &&other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Mapping &Mapping::operator=(Mapping &&other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void Mapping::keep_to_itself() const {
  (void)::madvise(data_, size_, MADV_DONTFORK); // fails for no whole mapping
}

Mapping::~Mapping() {
  if (data_ != nullptr)
    ::munmap(data_, size_);
}

} // namespace tqfpm::sys
