// SPDX-License-Identifier: Apache-2.0
#include "guest/init/program/command.h"

#include "guest/init/wire.h"

#include <asm/errno.h>
#include <asm/ioctls.h>
#include <asm/signal.h>
#include <asm/stat.h>
#include <asm/termios.h>
#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/stat.h>

namespace gnomon::guest::init {

namespace {

constexpr size_t path_limit = 4096;
constexpr int not_found = 127;
constexpr int not_executable = 126;
constexpr long execute_permission = 1; // X_OK

void close(int& fd) {
    if (fd >= 0) system_call(__NR_close, fd);
    fd = -1;
}

/// Fresh zeroed memory, or nullptr.
void* allocate(size_t size) {
    const long address = system_call(__NR_mmap, nullptr, size, PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    // SAFETY: results in the top page are errors, all others are addresses of new memory.
    return address < 0 && address > -4096 ? nullptr : reinterpret_cast<void*>(address);
}

/// Takes the NUL-ended fields of the command file one by one.
class Fields {
public:
    Fields(const char* begin, const char* end) : m_next(begin), m_end(end) {}
    const char* take() {
        if (m_next >= m_end) return nullptr;
        const char* field = m_next;
        m_next += length(field) + 1; // the file's last byte is a NUL
        return field;
    }
    bool take_number(u64& value, u64 limit) {
        const char* field = take();
        return field != nullptr && parse_number(field, value) && *field == '\0' && value <= limit;
    }
    /// A count and that many fields, as an array ended by nullptr; nullptr when malformed.
    const char** take_list() {
        u64 count = 0;
        if (!take_number(count, static_cast<u64>(m_end - m_next))) return nullptr;
        auto** list = static_cast<const char**>(allocate((count + 1) * sizeof(const char*)));
        if (list == nullptr) return nullptr;
        for (u64 i = 0; i < count; ++i)
            if ((list[i] = take()) == nullptr) return nullptr;
        return list;
    }

private:
    const char* m_next;
    const char* m_end;
};

bool parse(Fields fields, Command& command) {
    const char* magic = fields.take();
    if (magic == nullptr || !equal(magic, wire::command_magic)) return false;
    const char* mode = fields.take();
    if (mode == nullptr) return false;
    command.terminal = equal(mode, wire::mode_tty);
    if (!command.terminal && !equal(mode, wire::mode_pipe)) return false;
    u64 rows = 0, columns = 0;
    if (!fields.take_number(rows, 0xffff) || !fields.take_number(columns, 0xffff)) return false;
    command.rows = static_cast<u16>(rows);
    command.columns = static_cast<u16>(columns);
    command.working_directory = fields.take();
    if (command.working_directory == nullptr) return false;
    command.arguments = fields.take_list();
    if (command.arguments == nullptr || command.arguments[0] == nullptr) return false;
    command.environment = fields.take_list();
    return command.environment != nullptr && fields.take() == nullptr;
}

const char* search_path(const Command& command) {
    for (const char** variable = command.environment; *variable != nullptr; ++variable)
        if (const char* value = after_prefix(*variable, "PATH=")) return value;
    return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
}

/// 0 when `path` is a regular file that may be executed, else an errno.
long check_executable(const char* path) {
    struct stat status {};
    const long found = system_call(__NR_stat, path, &status);
    if (found < 0) return -found;
    if (!S_ISREG(status.st_mode)) return EACCES;
    return -system_call(__NR_access, path, execute_permission);
}

/// Finds the program as a shell does, so that the command's process calls execve once only.
/// @return 0 with the path in `found`, or an errno: EACCES when only unusable files were found.
long find_program(const Command& command, char (&found)[path_limit]) {
    const char* name = command.arguments[0];
    bool has_slash = false;
    for (const char* c = name; *c != '\0'; ++c)
        has_slash = has_slash || *c == '/';
    const size_t name_size = length(name) + 1;
    if (name_size > path_limit) return ENAMETOOLONG;
    if (has_slash) {
        __builtin_memcpy(found, name, name_size);
        return check_executable(found);
    }
    long result = ENOENT;
    if (*name == '\0') return result;
    const char* directory = search_path(command);
    for (;;) {
        const char* end = directory;
        while (*end != '\0' && *end != ':')
            ++end;
        const size_t size = static_cast<size_t>(end - directory);
        if (size + 1 + name_size <= path_limit) {
            __builtin_memcpy(found, directory, size);
            size_t used = size;
            if (size != 0) found[used++] = '/'; // an empty element is the current directory
            __builtin_memcpy(found + used, name, name_size);
            const long status = check_executable(found);
            if (status == 0) return 0;
            if (status == EACCES) result = EACCES;
        }
        if (*end == '\0') return result;
        directory = end + 1;
    }
}

[[noreturn]] void report_and_exit(const Command& command, long error, bool by_path_search) {
    Line line;
    line << "gnomon: " << command.arguments[0] << ": "
         << (by_path_search && error == ENOENT ? "command not found" : error_text(error));
    line.end();
    write_all(2, line.data(), line.size());
    const bool missing = error == ENOENT || error == ENOTDIR || error == ENAMETOOLONG;
    exit_process(missing ? not_found : not_executable);
}

/// Runs the program; a file of no known format is a script for the shell, as shells have it.
[[noreturn]] void execute(const Command& command, const char* path) {
    const long error = -system_call(__NR_execve, path, command.arguments, command.environment);
    if (error == ENOEXEC) {
        size_t count = 0;
        while (command.arguments[count] != nullptr)
            ++count;
        auto** script = static_cast<const char**>(allocate((count + 2) * sizeof(const char*)));
        if (script != nullptr) {
            script[0] = "/bin/sh";
            script[1] = path;
            for (size_t i = 1; i < count; ++i)
                script[i + 1] = command.arguments[i];
            system_call(__NR_execve, script[0], script, command.environment);
        }
    }
    report_and_exit(command, error, false);
}

/// The child's side of the standard streams.
struct Streams {
    int input = -1, output = -1, error = -1;
};

[[noreturn]] void run_child(const Command& command, const Streams& streams, int go) {
    system_call(__NR_setsid);
    if (command.terminal) system_call(__NR_ioctl, streams.input, TIOCSCTTY, 0);
    system_call(__NR_dup2, streams.input, 0);
    system_call(__NR_dup2, streams.output, 1);
    system_call(__NR_dup2, streams.error, 2);
    // No signal has a handler or is ignored in init, so unblocking is all there is to reset.
    const u64 no_signals = 0;
    system_call(__NR_rt_sigprocmask, SIG_SETMASK, &no_signals, nullptr, sizeof no_signals);
    static char path[path_limit];
    const long missing = find_program(command, path);
    char byte;
    while (system_call(__NR_read, go, &byte, 1) == -EINTR) {
    }
    if (missing != 0) {
        bool searched = true;
        for (const char* c = command.arguments[0]; *c != '\0'; ++c)
            searched = searched && *c != '/';
        report_and_exit(command, missing, searched);
    }
    execute(command, path);
}

long open_terminal(const Command& command, Process& process, Streams& streams) {
    const long master = system_call(__NR_open, "/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (master < 0) return master;
    process.input = process.output = static_cast<int>(master);
    const int unlocked = 0;
    system_call(__NR_ioctl, master, TIOCSPTLCK, &unlocked);
    const winsize size{command.rows, command.columns, 0, 0};
    system_call(__NR_ioctl, master, TIOCSWINSZ, &size);
    const long slave = system_call(__NR_ioctl, master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    streams.input = streams.output = streams.error = static_cast<int>(slave);
    return slave;
}

long open_pipes(Process& process, Streams& streams) {
    int ends[2];
    long status = system_call(__NR_pipe2, ends, O_CLOEXEC);
    if (status < 0) return status;
    streams.input = ends[0];
    process.input = ends[1];
    status = system_call(__NR_pipe2, ends, O_CLOEXEC);
    if (status < 0) return status;
    process.output = ends[0];
    streams.output = ends[1];
    status = system_call(__NR_pipe2, ends, O_CLOEXEC);
    if (status < 0) return status;
    process.error = ends[0];
    streams.error = ends[1];
    return 0;
}

} // namespace

bool read_command(Command& command, Line& reason) {
    const long fd = system_call(__NR_open, wire::command_path, O_RDONLY | O_CLOEXEC);
    struct stat status {};
    if (fd < 0 || system_call(__NR_fstat, fd, &status) < 0 || status.st_size <= 0) {
        reason << "cannot open the command file " << wire::command_path;
        return false;
    }
    const size_t size = static_cast<size_t>(status.st_size);
    auto* contents = static_cast<char*>(allocate(size));
    size_t filled = 0;
    while (contents != nullptr && filled < size) {
        const long count = system_call(__NR_read, fd, contents + filled, size - filled);
        if (count <= 0) break;
        filled += static_cast<size_t>(count);
    }
    system_call(__NR_close, fd);
    if (filled != size || contents[size - 1] != '\0' ||
        !parse(Fields(contents, contents + size), command)) {
        reason << "the command file " << wire::command_path << " is damaged";
        return false;
    }
    return true;
}

bool spawn(const Command& command, Process& process, Line& reason) {
    const long entered = system_call(__NR_chdir, command.working_directory);
    if (entered < 0) {
        reason << "cannot enter the directory " << command.working_directory << ": "
               << error_text(-entered);
        return false;
    }
    Streams streams;
    const long opened =
        command.terminal ? open_terminal(command, process, streams) : open_pipes(process, streams);
    int go[2];
    const long piped = opened < 0 ? opened : system_call(__NR_pipe2, go, O_CLOEXEC);
    if (piped < 0) {
        reason << "cannot make the command's " << (command.terminal ? "terminal: " : "pipes: ")
               << error_text(-piped);
        return false;
    }
    process.pid = system_call(__NR_fork);
    if (process.pid == 0) {
        system_call(__NR_close, go[1]);
        run_child(command, streams, go[0]);
    }
    system_call(__NR_close, go[0]);
    close(streams.input);
    if (!command.terminal) {
        close(streams.output);
        close(streams.error);
    }
    process.go = go[1];
    if (process.pid < 0) {
        reason << "cannot make the command's process: " << error_text(-process.pid);
        return false;
    }
    set_nonblocking(process.input);
    set_nonblocking(process.output);
    if (process.error >= 0) set_nonblocking(process.error);
    return true;
}

void release(Process& process) { close(process.go); }

} // namespace gnomon::guest::init
