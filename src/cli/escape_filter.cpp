// SPDX-License-Identifier: Apache-2.0
#include "cli/escape_filter.h"

namespace gnomon::cli {

namespace {

constexpr std::byte control(char letter) { return static_cast<std::byte>(letter - 'A' + 1); }

} // namespace

EscapeFilter::Command EscapeFilter::consume(std::span<const std::byte>& typed,
                                            std::vector<std::byte>& guest) {
    while (!typed.empty()) {
        const std::byte key = typed.front();
        typed = typed.subspan(1);
        if (!m_escaped) {
            if (key == control('A')) {
                m_escaped = true;
            } else {
                guest.push_back(key);
            }
            continue;
        }
        m_escaped = false;
        if (key == control('A')) {
            guest.push_back(key);
        } else if (key == std::byte{'x'} || key == std::byte{'X'} || key == control('X')) {
            return Command::quit;
        } else if (key == std::byte{'h'} || key == std::byte{'H'} || key == control('H')) {
            return Command::help;
        }
    }
    return Command::none;
}

} // namespace gnomon::cli
