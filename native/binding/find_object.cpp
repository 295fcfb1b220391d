#include <cstdint>

// The static libgcc finds the tables of an exception's frames through _dl_find_object, which glibc has since 2.35 only.
// With this one in its place, over what every glibc has, the addon loads on 2.34 too. Seen nowhere but in the addon.
#if defined(__GLIBC__)
#if __GLIBC_PREREQ(2, 35)

#include <dlfcn.h>
#include <link.h>

namespace {

struct Search {
  uintptr_t address;
  dl_find_object* result;
};

// One library: 1, which ends the search, if the address lies in it. Without its tables it counts as not found.
int look(dl_phdr_info* library, size_t, void* data) {
  const Search& search = *static_cast<Search*>(data);
  const ElfW(Phdr)* inside = nullptr;
  const ElfW(Phdr)* tables = nullptr;
  for (int i = 0; i < library->dlpi_phnum; i++) {
    const ElfW(Phdr)& segment = library->dlpi_phdr[i];
    const uintptr_t begin = library->dlpi_addr + segment.p_vaddr;
    if (segment.p_type == PT_LOAD && search.address - begin < segment.p_memsz) inside = &segment;
    if (segment.p_type == PT_GNU_EH_FRAME) tables = &segment;
  }
  if (inside == nullptr || tables == nullptr) return 0;
  const uintptr_t begin = library->dlpi_addr + inside->p_vaddr;
  *search.result = {};
  search.result->dlfo_map_start = reinterpret_cast<void*>(begin);
  search.result->dlfo_map_end = reinterpret_cast<void*>(begin + inside->p_memsz);
  search.result->dlfo_eh_frame = reinterpret_cast<void*>(library->dlpi_addr + tables->p_vaddr);
  return 1;
}

}  // namespace

extern "C" __attribute__((visibility("hidden"))) int _dl_find_object(void* address, dl_find_object* result) noexcept {
  Search search{reinterpret_cast<uintptr_t>(address), result};
  return dl_iterate_phdr(look, &search) == 1 ? 0 : -1;
}

#endif
#endif
