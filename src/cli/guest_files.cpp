// SPDX-License-Identifier: Apache-2.0
#include "cli/guest_files.h"

#include "base/file_descriptor.h"
#include "base/types.h"

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <system_error>

namespace gnomon::cli {

namespace fs = std::filesystem;

namespace {

/// A file that can be opened for reading; -1 in errno's terms otherwise.
FileDescriptor open_file(const std::string& path) {
    // O_NONBLOCK: a pipe nobody writes to must not hold us up.
    FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    struct stat status {};
    if (!fd || ::fstat(fd.get(), &status) != 0) return {};
    if (S_ISDIR(status.st_mode)) {
        errno = EISDIR;
        return {};
    }
    return fd;
}

bool readable(const fs::path& path) { return static_cast<bool>(open_file(path)); }

/// The newest kernel of a folder: names compared as versions, after following links (vmlinuz.old
/// ...).
std::optional<std::string> newest_kernel(const fs::path& folder) {
    std::optional<fs::path> newest;
    std::error_code error;
    for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
         entry.increment(error)) {
        if (!entry->path().filename().string().starts_with("vmlinuz")) continue;
        std::error_code ignored;
        const fs::path image = fs::canonical(entry->path(), ignored);
        if (ignored || !readable(image)) continue;
        if (!newest || ::strverscmp(image.filename().c_str(), newest->filename().c_str()) > 0) {
            newest = image;
        }
    }
    if (!newest) return std::nullopt;
    return newest->string();
}

} // namespace

SearchPlaces SearchPlaces::of_this_process() {
    SearchPlaces places;
    if (const char* const kernel = std::getenv("GNOMON_KERNEL");
        kernel != nullptr && *kernel != '\0') {
        places.kernel_variable = kernel;
    }
    std::error_code error;
    const fs::path executable = fs::read_symlink("/proc/self/exe", error);
    if (!error) places.fetched = executable.parent_path().parent_path() / "guest";
    return places;
}

Result<> check_readable_file(const std::string& path, const char* what) {
    errno = 0;
    if (open_file(path)) return {};
    return fail("{} {}: {}", what, path.empty() ? "''" : path, std::strerror(errno));
}

Result<std::string> find_kernel(const std::optional<std::string>& given,
                                const SearchPlaces& places) {
    const auto named = [](const std::string& path, const char* by) -> Result<std::string> {
        if (const auto checked = check_readable_file(path, by); !checked) {
            return tl::unexpected(checked.error());
        }
        return path;
    };
    if (given) return named(*given, "--kernel");
    if (places.kernel_variable) return named(*places.kernel_variable, "GNOMON_KERNEL");
    if (const fs::path fetched = places.fetched / "cloud" / "vmlinuz"; readable(fetched)) {
        return fetched.string();
    }
    if (const auto found = newest_kernel(places.boot)) return *found;
    return fail(
        "no kernel found: name one with --kernel FILE, or fetch Debian's with scripts/fetch.sh "
        "(nothing readable at {} and {}/vmlinuz*)",
        (places.fetched / "cloud" / "vmlinuz").string(), places.boot.string());
}

Result<std::string> find_busybox(const std::optional<std::string>& given,
                                 const SearchPlaces& places) {
    if (given) {
        if (const auto checked = check_readable_file(*given, "--busybox"); !checked) {
            return tl::unexpected(checked.error());
        }
        if (!is_static_executable(*given)) {
            return fail("--busybox {}: not a statically linked x86-64 executable; the guest has no "
                        "dynamic loader",
                        *given);
        }
        return *given;
    }
    for (const fs::path& path :
         {places.fetched / "busybox" / "bin" / "busybox", places.system_busybox}) {
        if (is_static_executable(path)) return path.string();
    }
    return fail(
        "no static busybox found for the guest: fetch one with scripts/fetch.sh, or name one with "
        "--busybox FILE or a whole root file system with --root DIR");
}

bool is_static_executable(const fs::path& path) {
    const FileDescriptor fd = open_file(path);
    Elf64_Ehdr header{};
    if (!fd || ::pread(fd.get(), &header, sizeof header, 0) != ssize_t{sizeof header}) return false;
    if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
        header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != EM_X86_64 ||
        header.e_phentsize != sizeof(Elf64_Phdr) ||
        (header.e_type != ET_EXEC && header.e_type != ET_DYN) ||
        header.e_phoff > (Elf64_Off{1} << 40)) {
        return false;
    }
    for (unsigned i = 0; i < header.e_phnum; i++) {
        Elf64_Phdr segment{};
        const auto offset = static_cast<off_t>(header.e_phoff + u64{i} * sizeof segment);
        if (::pread(fd.get(), &segment, sizeof segment, offset) != ssize_t{sizeof segment})
            return false;
        if (segment.p_type == PT_INTERP) return false;
    }
    return header.e_phnum > 0;
}

} // namespace gnomon::cli
