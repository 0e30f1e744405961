// SPDX-License-Identifier: Apache-2.0
#include "monitor/completions/scheduler.h"

#include "base/verify.h"

#include <algorithm>
#include <utility>

namespace gnomon::monitor {

using platform::GuestTrouble;
using platform::VectorSet;

namespace {

using State = platform::Completion::State;

/// Of two clocks that are read one after the other.
u64 minus(u64 a, u64 b) { return a > b ? a - b : 0; }

bool can_be_interrupted(const CpuState& state) {
    return state.takes_interrupts && !state.in_service;
}

/// How long what has matured waits for a handler, beyond its nominal delay.
u64 grace_ns(u64 nominal_ns) { return std::max<u64>(nominal_ns, 1'000'000); }

} // namespace

Completions::Completions(const CompletionPolicy& policy, GuestView& view, unsigned cpus,
                         std::shared_ptr<const CompletionRules> rules)
    : m_policy(policy), m_view(view),
      m_rules(rules != nullptr ? std::move(rules) : std::make_shared<const CompletionRules>()),
      m_cpus(cpus) {}

unsigned Completions::add_device(std::string name) {
    m_devices.emplace_back().name = std::move(name);
    return static_cast<unsigned>(m_devices.size() - 1);
}

Completions::Line& Completions::line_of(unsigned device, unsigned line) {
    VERIFY(line < most_lines);
    auto& lines = m_devices[device].lines;
    if (line >= lines.size()) lines.resize(line + 1);
    if (lines[line] == nullptr) {
        lines[line] = &m_lines.emplace_back();
        lines[line]->device = device;
    }
    return *lines[line];
}

// ---------------------------------------------------------------- a request's way

void Completions::open_guard(Line& line, unsigned cpu, u64 now, u64 run) {
    line.guard_seen_ns = m_cpus[cpu].closely_seen_ns;
    line.guard_cpu = cpu;
    line.guard_ns = now;
    line.guard_run_ns = run;
}

void Completions::command_written(unsigned device, unsigned line) {
    Device& d = m_devices[device];
    d.polls = 0;
    const unsigned cpu = m_view.current_cpu();
    if (d.timed) observe(cpu, false);
    m_cpus[cpu].halted = false;
    if (!d.timed) return;
    open_guard(line_of(device, line), cpu, m_view.now_ns(), m_view.run_bound_ns(cpu));
}

void Completions::submitted(unsigned device, Completion& completion, u64 nominal_ns) {
    auto& notes = completion.notes;
    VERIFY(notes.state == State::idle);
    Device& d = m_devices[device];
    Line& line = line_of(device, completion.line);
    const unsigned cpu = m_view.current_cpu();
    m_cpus[cpu].halted = false;
    notes.state = State::submitted;
    notes.device = device;
    notes.cpu = cpu;
    notes.nominal_ns = nominal_ns;
    notes.going = false;
    notes.submitted_ns = m_view.now_ns();
    ++d.statistics.requests;
    notes.counted = delays(completion);
    if (notes.counted) m_known.fetch_add(1, std::memory_order_relaxed);
    d.polls = 0;
    if (!line.vector && !line.queued) line.cpu = cpu;
    if (nominal_ns == 0) return;
    d.timed = true;
    observe(cpu, false);
    notes.submitted_run_ns = m_view.run_bound_ns(cpu);
    notes.submitted_seen_ns = m_cpus[cpu].seen_ns;
    m_cpus[cpu].wanted_seen_ns =
        std::max(m_cpus[cpu].wanted_seen_ns, m_cpus[cpu].seen_ns + nominal_ns);
    notes.submitted_watched_ns = m_watched_ns;
    open_guard(line, cpu, notes.submitted_ns, notes.submitted_run_ns);
}

/// Whether the policy may hold it back.
bool Completions::delays(const Completion& completion) const {
    switch (m_policy.kind) {
    case CompletionPolicy::Kind::immediate: return false;
    case CompletionPolicy::Kind::fixed: return m_policy.fixed_ns != 0;
    case CompletionPolicy::Kind::adaptive:
    case CompletionPolicy::Kind::nominal: break;
    }
    return completion.notes.nominal_ns != 0;
}

void Completions::host_done(Completion& completion) {
    auto& notes = completion.notes;
    VERIFY(notes.state == State::submitted);
    notes.state = State::waiting;
    if (!delays(completion)) {
        VERIFY(completion.claim());
        deliver_one(completion, Delivery::at_once);
        return;
    }
    const u64 now = m_view.now_ns();
    const bool fixed = m_policy.kind == CompletionPolicy::Kind::fixed;
    if (!fixed) {
        const unsigned cpu = m_view.current_cpu();
        observe(cpu, m_cpus[cpu].halted);
    }
    const u64 due = notes.submitted_ns + (fixed ? m_policy.fixed_ns : notes.nominal_ns);
    notes.look_ns = due;
    if (now >= due && left_ns(completion, now) == 0) {
        VERIFY(completion.claim());
        deliver_one(completion, Delivery::late);
    } else {
        enqueue(completion, due);
    }
}

void Completions::forget(Completion& completion) {
    if (std::exchange(completion.notes.counted, false))
        m_known.fetch_sub(1, std::memory_order_relaxed);
}

void Completions::cancel(Completion& completion) {
    auto& notes = completion.notes;
    if (notes.state == State::idle) return;
    if (notes.state == State::waiting)
        take(completion);
    else
        notes.state = State::idle;
    forget(completion);
    ++m_devices[notes.device].statistics.cancelled;
}

void Completions::trouble(unsigned device, GuestTrouble) {
    Device& d = m_devices[device];
    d.back_off.trouble(true);
    ++d.statistics.back_offs;
}

// ---------------------------------------------------------------- queues

void Completions::enqueue(Completion& completion, u64 look_ns) {
    Line& line = line_of(completion.notes.device, completion.line);
    completion.notes.look_ns = look_ns;
    completion.notes.order = m_next_order++;
    m_global.push(completion);
    line.queue.push_back(completion);
    if (!std::exchange(line.queued, true)) m_cpus[line.cpu].lines.push_back(&line);
}

void Completions::dequeue(Completion& completion) {
    Line& line = line_of(completion.notes.device, completion.line);
    m_global.remove(completion);
    line.queue.remove(completion);
    if (line.queue.empty()) {
        std::erase(m_cpus[line.cpu].lines, &line);
        line.queued = line.held = false;
    }
}

// ---------------------------------------------------------------- time

void Completions::ran(unsigned cpu, u64 ns) {
    m_cpus[cpu].seen_ns += std::min(ns, stretch_ns);
    m_cpus[cpu].closely_seen_ns += std::min(ns, close_stretch_ns);
}

void Completions::observe(unsigned cpu, bool halted) {
    Cpu& c = m_cpus[cpu];
    const u64 now = m_view.now_ns();
    if (halted && c.halted) {
        c.seen_ns += minus(now, c.looked_ns);
        c.closely_seen_ns += minus(now, c.looked_ns);
    }
    c.looked_ns = now;
    c.halted = halted;
    m_watched_ns += std::min(minus(now, m_watched_at_ns), watched_step_ns);
    m_watched_at_ns = now;
}

u64 Completions::cap_left_ns(const Completion& completion) const {
    const auto& notes = completion.notes;
    return minus(notes.nominal_ns + cap_ns, minus(m_watched_ns, notes.submitted_watched_ns));
}

/// Reading it is dear, and one delivery asks for it several times.
u64 Completions::run_ns(unsigned cpu, u64 now) {
    Cpu& c = m_cpus[cpu];
    if (c.run_at_ns != now) {
        c.run_ns = m_view.run_ns(cpu);
        c.run_at_ns = now;
    }
    return c.run_ns;
}

/// How long ago it was submitted, as the rules count time, as far as that matters: it is at least
/// `enough` if the result is.
u64 Completions::age_ns(const Completion& completion, u64 now, u64 enough) {
    const auto& notes = completion.notes;
    const u64 clock = minus(now, notes.submitted_ns);
    const u64 seen = minus(m_cpus[notes.cpu].seen_ns, notes.submitted_seen_ns);
    const u64 most = m_rules->passed_ns(seen, clock);
    if (most < enough) return most;
    return m_rules->passed_ns(minus(run_ns(notes.cpu, now), notes.submitted_run_ns), clock);
}

u64 Completions::left_ns(const Completion& completion, u64 now) {
    const auto& notes = completion.notes;
    if (m_policy.kind == CompletionPolicy::Kind::fixed) return minus(notes.look_ns, now);
    const u64 on_clock = minus(now, notes.submitted_ns);
    if (cap_left_ns(completion) == 0) return 0;
    if (on_clock < notes.nominal_ns) return notes.nominal_ns - on_clock;
    return minus(notes.nominal_ns, age_ns(completion, now, notes.nominal_ns));
}

/// Whether a line's guard window is open, as far as that can be told cheaply.
bool Completions::surely_guarded(const Line& line, u64 now) const {
    const u64 guard = m_rules->guard_ns(line.queue.front()->notes.nominal_ns);
    const Cpu& cpu = m_cpus[line.guard_cpu];
    return !cpu.halted && m_rules->passed_ns(minus(cpu.closely_seen_ns, line.guard_seen_ns),
                                             minus(now, line.guard_ns)) < guard;
}

bool Completions::guard_over(const Line& line, const Completion& completion, u64 now) {
    const auto& notes = completion.notes;
    const u64 guard = m_rules->guard_ns(notes.nominal_ns);
    // Who halts has done all that was to be done before the answer.
    const auto ended = [&](unsigned cpu) { return m_cpus[cpu].halted || guard == 0; };
    const auto over = [&] {
        const u64 passed = minus(now, line.guard_ns);
        if (passed < guard) return false;
        const u64 seen = minus(m_cpus[line.guard_cpu].closely_seen_ns, line.guard_seen_ns);
        if (m_rules->passed_ns(seen, passed) < guard) return false;
        const u64 run = minus(run_ns(line.guard_cpu, now), line.guard_run_ns);
        return m_rules->passed_ns(run, passed) >= guard;
    };
    return (ended(line.guard_cpu) || over()) && (notes.cpu == line.guard_cpu || ended(notes.cpu) ||
                                                 age_ns(completion, now, guard) >= guard);
}

bool Completions::old_enough(const Device& device, const Completion& completion, u64 now) {
    const auto& notes = completion.notes;
    const u64 least = device.back_off.least_ns(notes.nominal_ns);
    return least == 0 ||
           (minus(now, notes.submitted_ns) >= least && age_ns(completion, now, least) >= least);
}

// ---------------------------------------------------------------- looking

bool Completions::look(unsigned cpu, bool halted) {
    observe(cpu, halted);
    follow_returns(cpu);
    Cpu& c = m_cpus[cpu];
    // Whatever is delivered then, and whether anything waits: it idles.
    if (halted && can_be_interrupted(m_view.state())) c.watch.idle();
    const u64 now = c.looked_ns;
    bool any = look_for_matured(now);
    if (any && !halted) c.halts_seen = 0;
    if (m_policy.kind != CompletionPolicy::Kind::adaptive) return any;
    if (look_for_safepoint(cpu, halted, now)) any = true;
    if (look_for_held(cpu, now)) any = true;
    c.return_wanted = c.watch.in_handler() && std::ranges::any_of(c.lines, [&](const Line* line) {
                          const Completion& first = *line->queue.front();
                          return line->held || (guard_over(*line, first, now) &&
                                                old_enough(m_devices[line->device], first, now));
                      });
    expect_return(c);
    return any;
}

void Completions::follow_returns(unsigned cpu) {
    if (!m_view.take_return()) return;
    m_cpus[cpu].awaited.reset();
    m_cpus[cpu].watch.left();
}

/// Has the current CPU's next return looked out for. It exits there if something waits for nothing
/// but that, or if another one is to be looked out for then.
void Completions::expect_return(Cpu& cpu) {
    const auto context = cpu.watch.awaited();
    const bool exits = cpu.return_wanted || cpu.watch.nested();
    if (context == cpu.awaited && exits == cpu.return_exits) return;
    cpu.awaited = context;
    cpu.return_exits = exits;
    m_view.watch_return(context, exits);
}

u64 Completions::next_look_ns(unsigned cpu) const {
    const Cpu& c = m_cpus[cpu];
    u64 next = m_global.empty() ? never : m_global.top().notes.look_ns;
    if (!c.halted && any_known()) {
        if (c.seen_ns + stretch_ns < c.wanted_seen_ns)
            next = std::min(next, c.looked_ns + stretch_ns);
        if (c.halts_seen != 0) next = std::max(next, c.looked_ns + patience_ns(c));
    }
    return std::min(next, c.early_look_ns);
}

bool Completions::unacknowledged(const Line& line) const {
    return line.vector && m_view.active_vectors(line.cpu).test(*line.vector);
}

/// Whether an interrupt of the line would meet the one before.
bool Completions::busy(const Line& line) const {
    if (unacknowledged(line)) return true;
    const Cpu& cpu = m_cpus[line.cpu];
    if (line.cpu != m_view.current_cpu() || cpu.halted || !cpu.watch.in_handler()) return false;
    const CpuState state = m_view.state();
    // With interrupts off it is still in the handler, on whatever stack.
    return !state.takes_interrupts || cpu.watch.under_way(line.device, state);
}

/// Of what has matured: whether it waits for the handler.
bool Completions::held_back(const Completion& completion, u64 now) {
    if (m_policy.kind != CompletionPolicy::Kind::adaptive) return false;
    const auto& notes = completion.notes;
    const u64 longest = notes.nominal_ns + grace_ns(notes.nominal_ns);
    return busy(line_of(notes.device, completion.line)) &&
           age_ns(completion, now, longest) < longest && cap_left_ns(completion) != 0;
}

bool Completions::look_for_matured(u64 now) {
    constexpr u64 shortest_step = 1'000;
    bool any = false;
    // What is submitted from within, and done at once, has its own time ahead.
    while (!m_global.empty() && m_global.top().notes.look_ns <= now) {
        Completion& completion = m_global.top();
        if (const u64 left = left_ns(completion, now); left != 0) {
            m_global.set_look(
                completion, now + std::max(std::min(left, cap_left_ns(completion)), shortest_step));
        } else if (held_back(completion, now)) {
            line_of(completion.notes.device, completion.line).held = true;
            m_global.set_look(completion, now + shortest_wait_ns);
        } else {
            deliver_matured(completion, now);
            any = true;
        }
    }
    return any;
}

/// Where one interrupt may tell of several, those of its line that have matured too come with it.
void Completions::deliver_matured(Completion& completion, u64 now) {
    Line& line = line_of(completion.notes.device, completion.line);
    if (m_devices[line.device].batches && m_policy.kind == CompletionPolicy::Kind::adaptive) {
        choose(line,
               [&](const Completion& c) { return &c == &completion || left_ns(c, now) == 0; });
        deliver_chosen(line, Delivery::matured);
    } else {
        take(completion);
        deliver_one(completion, Delivery::matured);
    }
}

/// What has matured and had to wait, as soon as the handler is done with.
bool Completions::look_for_held(unsigned cpu, u64 now) {
    Cpu& c = m_cpus[cpu];
    bool any = false;
    for (std::size_t left = c.lines.size(); left-- > 0;) {
        if (left >= c.lines.size() || !c.lines[left]->held || busy(*c.lines[left])) continue;
        Line& line = *c.lines[left];
        line.held = false;
        Completion* first = line.queue.front();
        while (first != nullptr && left_ns(*first, now) != 0)
            first = first->notes.next;
        if (first == nullptr) continue;
        deliver_matured(*first, now);
        any = true;
    }
    return any;
}

/// Puts those of a line that are `ready` to the front of its queue, in their order, for
/// `deliver_chosen`. @return whether there are any.
template <typename Ready>
bool Completions::choose(Line& line, Ready ready) {
    Completion* last = nullptr;
    for (Completion* c = line.queue.front(); c != nullptr;) {
        Completion* const next = c->notes.next;
        if (ready(*c)) {
            line.queue.move_behind(last, *c);
            c->notes.going = true;
            last = c;
        }
        c = next;
    }
    return last != nullptr;
}

bool Completions::look_for_safepoint(unsigned cpu, bool halted, u64 now) {
    Cpu& c = m_cpus[cpu];
    c.window = false;
    const u64 planned = std::exchange(c.early_look_ns, never);
    if (c.lines.empty()) return false;
    const bool is_planned = planned > now && planned != never;
    const auto guarded = [&](const Line* line) { return surely_guarded(*line, now); };
    if (!halted && !c.watch.in_handler() && std::ranges::all_of(c.lines, guarded)) {
        // Wherever it is. Most CPUs halt before the guard windows end.
        if (c.watch.has_returned()) c.early_look_ns = is_planned ? planned : now + patience_ns(c);
        return false;
    }
    const CpuState state = m_view.state();
    Safepoint safepoint = Safepoint::none;
    if (halted) {
        if (can_be_interrupted(state)) safepoint = Safepoint::halted;
    } else if (m_rules->handler_returned(c.watch, state)) {
        safepoint = Safepoint::returned;
    }
    bool any = false;
    if (safepoint != Safepoint::none) {
        const Delivery kind =
            safepoint == Safepoint::halted ? Delivery::early_halted : Delivery::early_returned;
        for (std::size_t left = c.lines.size(); left-- > 0;)
            if (left < c.lines.size() && deliver_early(*c.lines[left], kind, now)) any = true;
    }
    if (any && safepoint == Safepoint::halted && planned != never && planned > now)
        c.halts_seen = std::min(c.halts_seen + 1, most_halts_seen);
    else if (any)
        c.halts_seen = 0;
    if (c.lines.empty() || any) return any;
    // A CPU that halts comes by here when it does; one that has interrupts off, when it has them
    // on; one that runs is interrupted, now and then.
    if (halted || !(safepoint != Safepoint::none || c.watch.expects_return(state))) return false;
    if (!state.takes_interrupts) {
        // From within a handler it leaves by an IRET, which is looked out for.
        c.window = !c.watch.awaits_return(state);
        if (is_planned) c.early_look_ns = planned; // an instruction may be under way
    } else {
        c.early_look_ns = is_planned ? planned : now + patience_ns(c);
    }
    return false;
}

/// What of a line's queue may come at a safepoint. @return whether anything was delivered.
bool Completions::deliver_early(Line& line, Delivery kind, u64 now) {
    const Device& device = m_devices[line.device];
    if (unacknowledged(line)) return false;
    const Completion* const first = line.queue.front();
    const auto ready = [&](const Completion& c) {
        return (device.batches || &c == first) && guard_over(line, c, now) &&
               old_enough(device, c, now);
    };
    if (!choose(line, ready)) return false;
    deliver_chosen(line, kind);
    return true;
}

void Completions::status_polled(unsigned device) {
    Device& d = m_devices[device];
    constexpr unsigned repeated = 2; // one follows every command
    if (++d.polls < repeated || !any_known() || m_policy.kind != CompletionPolicy::Kind::adaptive)
        return;
    const unsigned cpu = m_view.current_cpu();
    observe(cpu, false);
    follow_returns(cpu);
    const CpuState state = m_view.state();
    // In a handler that is how it finds out what it was called for.
    if (state.in_service || m_cpus[cpu].watch.under_way(device, state)) return;
    const u64 now = m_view.now_ns();
    for (std::size_t n = 0; n < d.lines.size(); ++n)
        if (d.lines[n] != nullptr && d.lines[n]->queued)
            deliver_early(*d.lines[n], Delivery::early_polled, now);
}

// ---------------------------------------------------------------- delivering

/// A delivery under way: which interrupt it makes is seen by what CPUs are asked before and after.
class Completions::Delivering {
public:
    Delivering(Completions& owner, Line& line) : m_owner(owner), m_line(line) {
        const std::size_t depth = owner.m_depth++;
        if (depth == owner.m_before.size()) owner.m_before.emplace_back(owner.m_cpus.size());
        m_before = &owner.m_before[depth];
        for (unsigned cpu = 0; cpu < m_before->size(); ++cpu)
            (*m_before)[cpu] = owner.m_view.active_vectors(cpu);
    }
    Delivering(const Delivering&) = delete;
    Delivering& operator=(const Delivering&) = delete;
    ~Delivering() {
        m_owner.find_interrupt(m_line, *m_before);
        --m_owner.m_depth;
    }

private:
    Completions& m_owner;
    Line& m_line;
    std::vector<VectorSet>* m_before;
};

/// Out of the queues; nobody else will deliver it.
void Completions::take(Completion& completion) {
    VERIFY(completion.claim());
    dequeue(completion);
}

/// Of what is in no queue.
void Completions::deliver_one(Completion& completion, Delivery kind) {
    Line& line = line_of(completion.notes.device, completion.line);
    const Delivering delivering(*this, line);
    tell(line, completion, kind);
}

void Completions::deliver_chosen(Line& line, Delivery kind) {
    const Delivering delivering(*this, line);
    // While it delivers one, a device may cancel others, and make new ones.
    while (!line.queue.empty() && line.queue.front()->notes.going) {
        Completion& completion = *line.queue.front();
        take(completion);
        tell(line, completion, kind);
    }
}

void Completions::tell(Line& line, Completion& completion, Delivery kind) {
    Device& device = m_devices[line.device];
    ++device.statistics.deliveries[static_cast<std::size_t>(kind)];
    device.back_off.delivered();
    if (line.told.size() == most_told) record_told(line, m_view.now_ns());
    line.told.push_back(completion.notes.submitted_ns);
    forget(completion);
    completion.deliver();
}

void Completions::find_interrupt(Line& line, const std::vector<VectorSet>& before) {
    for (unsigned cpu = 0; cpu < before.size(); ++cpu)
        if (const auto vector = m_view.active_vectors(cpu).without(before[cpu]).highest()) {
            set_vector(line, cpu, *vector);
            return;
        }
    // Masked, or switched off: no handler will come.
    if (!unacknowledged(line)) record_told(line, m_view.now_ns());
}

void Completions::set_vector(Line& line, unsigned cpu, u8 vector) {
    if (line.vector && line.cpu == cpu && *line.vector == vector) return;
    if (line.vector) std::erase(m_cpus[line.cpu].vectors[*line.vector], &line);
    if (line.queued && line.cpu != cpu) {
        std::erase(m_cpus[line.cpu].lines, &line);
        m_cpus[cpu].lines.push_back(&line);
    }
    line.cpu = cpu;
    line.vector = vector;
    m_cpus[cpu].vectors[vector].push_back(&line);
}

void Completions::record_told(Line& line, u64 now) {
    LatencyHistogram& latency = m_devices[line.device].statistics.latency;
    for (const u64 submitted_ns : line.told)
        latency.add(minus(now, submitted_ns));
    line.told.clear();
}

void Completions::interrupt_injected(unsigned cpu, u8 vector) {
    Cpu& c = m_cpus[cpu];
    const std::vector<Line*>& lines = c.vectors[vector];
    if (lines.empty()) return;
    follow_returns(cpu);
    const u64 now = m_view.now_ns();
    // Lines can share a vector: it is theirs for whom something was delivered.
    const auto owner = std::find_if(lines.begin(), lines.end(),
                                    [](const Line* line) { return !line->told.empty(); });
    Device& device = m_devices[owner != lines.end() ? (*owner)->device : lines.front()->device];
    const unsigned depth = c.watch.entered(
        owner != lines.end() ? (*owner)->device : lines.front()->device, m_view.state());
    expect_return(c);
    for (Line* line : lines)
        record_told(*line, now);
    device.polls = 0;
    ++device.statistics.interrupts;
    device.statistics.deepest_nesting = std::max<u64>(device.statistics.deepest_nesting, depth);
    if (depth < 2) return;
    device.back_off.trouble(false);
    ++device.statistics.back_offs;
}

Statistics Completions::report() const {
    Statistics all;
    for (const Device& device : m_devices)
        all.push_back(device.statistics.report(device.name));
    return all;
}

} // namespace gnomon::monitor
