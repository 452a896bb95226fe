// What fpm_get_status() returns to a script, in the form in which the preload library reads it.
//
// A map is items and an end (type 0). An item is a type (one byte), the key's length (one byte), the key, and by type
//   'i'  8 bytes    an integer
//   'd'  8 bytes    a double
//   's'  4 bytes    length, and as many bytes of text
//   'l'             a list: for each element 'm' and a map; an end (type 0)
// Numbers are in host byte order: the text goes to a process of the same machine.
#pragma once

#include <string>

#include "status/render.h"

namespace tqfpm::status {

std::string fpm_status(const PoolState &state);

} // namespace tqfpm::status
