// SPDX-License-Identifier: Apache-2.0
/// @file Where the trace goes.
#pragma once

#include "base/file_descriptor.h"
#include "base/result.h"
#include "base/types.h"

#include <memory>
#include <string>
#include <string_view>

namespace gnomon::trace {

/// Takes the trace as a stream of text; a line may come in pieces, so that a call that blocks is
/// seen before it returns. Used by one thread.
class Sink {
public:
    virtual ~Sink() = default;
    /// @return an error once; the Tracer writes nothing after it.
    [[nodiscard]] virtual Result<> write(std::string_view text) = 0;
    [[nodiscard]] virtual Result<> flush() = 0;
};

/// Keeps the trace in memory.
class StringSink final : public Sink {
public:
    [[nodiscard]] Result<> write(std::string_view text) override {
        m_text.append(text);
        return {};
    }
    [[nodiscard]] Result<> flush() override { return {}; }
    [[nodiscard]] const std::string& text() const { return m_text; }

private:
    std::string m_text;
};

/// Writes to a file, a terminal or a pipe, in blocks; a full disk or a closed pipe is an Error. The
/// process must ignore SIGPIPE.
class FileSink final : public Sink {
public:
    /// Creates or truncates the file; empty or "-" is stderr, which stays open.
    [[nodiscard]] static Result<std::unique_ptr<FileSink>> open(const std::string& path);
    /// Writes to a descriptor that it owns from now on. @param name for messages.
    FileSink(FileDescriptor fd, std::string name);
    ~FileSink() override;

    [[nodiscard]] Result<> write(std::string_view text) override;
    [[nodiscard]] Result<> flush() override;
    /// Whether a write has failed because nobody reads (a closed pipe).
    [[nodiscard]] bool reader_gone() const { return m_reader_gone; }

private:
    FileDescriptor m_fd;
    std::string m_name;
    std::string m_buffer;
    bool m_failed = false;
    bool m_reader_gone = false;
};

} // namespace gnomon::trace
