// SPDX-License-Identifier: Apache-2.0
/// @file Archives from any names, modes and contents, and from folders with such files in them;
/// read back as the kernel reads them.
#include "fuzz/support/input.h"
#include "guest/initramfs/cpio.h"

#include <charconv>
#include <fcntl.h>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

using namespace gnomon;
using namespace gnomon::fuzz;

namespace {

struct Read {
    u32 mode = 0;
    std::string contents;
};

/// One file after the other, by the kernel's description of the format; stops at what is not sound.
std::map<std::string, Read> read_archive(std::span<const std::byte> archive) {
    const std::string_view all(reinterpret_cast<const char*>(archive.data()), archive.size());
    std::map<std::string, Read> out;
    std::size_t at = 0;
    for (;;) {
        require(at % 4 == 0 && all.size() - at >= 110, "a header is cut or not aligned");
        require(all.substr(at, 6) == "070701", "no magic number");
        std::array<u32, 13> field{};
        for (std::size_t i = 0; i < field.size(); ++i) {
            const char* const begin = all.data() + at + 6 + 8 * i;
            const auto [end, error] = std::from_chars(begin, begin + 8, field[i], 16);
            require(error == std::errc() && end == begin + 8, "a field is not hexadecimal");
        }
        const u32 size = field[6], name_size = field[11];
        require(name_size >= 1 && name_size <= 4096 && all.size() - at - 110 >= name_size,
                "a name is cut or too long");
        const std::string name(all.substr(at + 110, name_size - 1));
        require(all[at + 110 + name_size - 1] == '\0' && name.find('\0') == std::string::npos,
                "a name does not end where it says");
        at = (at + 110 + name_size + 3) & ~std::size_t{3};
        if (name == "TRAILER!!!") {
            require(at >= all.size(), "bytes behind the end mark");
            return out;
        }
        require(!name.empty() && name.front() != '/', "a name is empty or absolute");
        require(at <= all.size() && size <= all.size() - at, "contents are cut");
        out[name] = {field[1], std::string(all.substr(at, size))};
        at = (at + size + 3) & ~std::size_t{3};
    }
}

void fuzz_writer(Input& input) {
    const u64 limit = input.flag() ? input.take<u16>() : u64{1} << 20;
    guest::CpioWriter writer(limit);
    std::map<std::string, Read> expected;
    while (input.remaining() > 4) {
        const u8 what = input.take<u8>();
        std::string name = input.text(what == 0xff ? input.take<u16>() : input.take<u8>() % 24);
        if (!name.empty() && name.front() == '/') name.front() = '_';
        const std::string contents = input.text(input.take<u8>() % 40);
        const u32 mode = input.take<u16>() & 07777;
        Result<> added;
        u32 type = S_IFREG;
        switch (what & 3) {
        case 0:
        case 1: added = writer.add_file(name, mode, std::as_bytes(std::span(contents))); break;
        case 2:
            type = S_IFLNK;
            added = writer.add_symlink(name, contents);
            break;
        default:
            type = S_IFDIR;
            added = writer.add_directory(name, mode);
            break;
        }
        if (!added) continue;
        require(type != S_IFDIR || writer.has_directory(name), "a directory is forgotten");
        expected[name] = {type | (type == S_IFLNK ? 0777 : mode), type == S_IFDIR ? "" : contents};
    }
    const auto archive = writer.finish();
    const auto files = read_archive(archive);
    for (const auto& [name, file] : expected) {
        const auto found = files.find(name);
        require(found != files.end(), "a file is not in the archive");
        // A name that was also a parent's is a directory first.
        if (S_ISDIR(found->second.mode) != S_ISDIR(file.mode)) continue;
        require(found->second.contents == file.contents, "a file has other contents");
    }
}

/// A folder of our own, gone at the end.
class Folder {
public:
    Folder() {
        std::string name = (std::filesystem::temp_directory_path() / "gnomon-fuzz-XXXXXX").string();
        require(::mkdtemp(name.data()) != nullptr, "no temporary folder");
        m_path = name;
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    ~Folder() {
        std::error_code ignored;
        std::filesystem::remove_all(m_path, ignored);
    }
    [[nodiscard]] const std::filesystem::path& path() const { return m_path; }

private:
    std::filesystem::path m_path;
};

void fuzz_tree(Input& input) {
    const Folder folder;
    std::map<std::string, Read> expected;
    std::vector<std::string> directories = {""};
    for (unsigned i = 0; i < 12 && input.remaining() > 4; ++i) {
        const u8 what = input.take<u8>();
        std::string name = input.text(1 + input.take<u8>() % 20);
        for (char& c : name)
            if (c == '/' || c == '\0') c = '_';
        if (name == "." || name == "..") name = "dots";
        name = directories[(what >> 4) % directories.size()] + name;
        if (expected.contains(name)) continue;
        const std::string path = folder.path().string() + "/" + name;
        std::string contents = input.text(input.take<u8>() % 40);
        // The owner may always read: what cannot be read is an error, and not this target's.
        const u32 mode = (input.take<u16>() & 07777) | 0500;
        switch (what & 7) {
        case 0:
        case 1: {
            const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
            if (fd < 0) continue;
            const bool written = ::write(fd, contents.data(), contents.size()) ==
                                 static_cast<ssize_t>(contents.size());
            ::fchmod(fd, mode);
            ::close(fd);
            require(written, "a file cannot be written");
            break;
        }
        case 2:
            if (::symlink(contents.c_str(), path.c_str()) != 0) continue;
            break;
        case 3:
            if (::mkfifo(path.c_str(), 0600) != 0) continue;
            break;
        case 4: { // a second name of a file
            if (expected.empty()) continue;
            const auto& [first, file] = *expected.begin();
            if (::link((folder.path().string() + "/" + first).c_str(), path.c_str()) != 0) continue;
            contents = file.contents;
            break;
        }
        default:
            if (::mkdir(path.c_str(), 0700) != 0) continue;
            directories.push_back(name + "/");
            break;
        }
        struct stat status {};
        require(::lstat(path.c_str(), &status) == 0, "a file is gone");
        expected[name] = {status.st_mode,
                          S_ISREG(status.st_mode) || S_ISLNK(status.st_mode) ? contents : ""};
    }
    guest::CpioWriter writer(u64{1} << 20);
    const auto added = guest::add_tree(writer, folder.path().string(), {});
    require(added.has_value(), added ? "" : added.error().message);
    const auto files = read_archive(writer.finish());
    require(files.size() == expected.size(), "the archive has other files than the folder");
    for (const auto& [name, file] : expected) {
        const auto found = files.find(name);
        require(found != files.end(), "a file is not in the archive");
        require(found->second.mode == file.mode, "a file has another mode");
        // What symlink(2) took ends at a NUL. A second name has no contents.
        if (S_ISLNK(file.mode) && !found->second.contents.empty())
            require(found->second.contents == file.contents.c_str(), "a link has another target");
        if (S_ISREG(file.mode) && !found->second.contents.empty())
            require(found->second.contents == file.contents, "a file has other contents");
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, std::size_t size) {
    Input input(data, size);
    // Files on disk take far longer than those in memory.
    if (input.take<u8>() % 16 == 0)
        fuzz_tree(input);
    else
        fuzz_writer(input);
    return 0;
}
