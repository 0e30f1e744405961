// SPDX-License-Identifier: Apache-2.0
#include "guest/linux/btf.h"

#include "image_builder.h"
#include "mutation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/btf.h>

namespace gnomon::guest::linux_::test {
namespace {

TEST(Btf, FindsMembersByPath) {
    const auto btf = Btf::parse(small_kernel_btf());
    ASSERT_TRUE(btf) << btf.error().message;
    EXPECT_EQ(btf->offset_of("pt_regs", "ax").value(), 80u);
    EXPECT_EQ(btf->offset_of("task_struct", "thread_info.flags").value(), 0u);
    EXPECT_EQ(btf->offset_of("task_struct", "thread.fsbase").value(), 320u + 40u);
    EXPECT_EQ(btf->size_of("task_struct").value(), 400u);
    EXPECT_EQ(btf->size_of("pid_t").value(), 4u);
}

TEST(Btf, LooksThroughAnonymousMembersAndQualifiers) {
    const auto btf = Btf::parse(small_kernel_btf());
    ASSERT_TRUE(btf) << btf.error().message;
    EXPECT_EQ(btf->offset_of("task_struct", "pid").value(), 16u);
    const auto comm = btf->member("task_struct", "comm");
    ASSERT_TRUE(comm);
    EXPECT_EQ(comm->offset, 16u + 24u);
    EXPECT_EQ(comm->size, 16u);
    EXPECT_EQ(btf->offset_of("task_struct", "start_boottime").value(), 16u + 64u)
        << "union in anonymous struct";
    EXPECT_EQ(btf->member("task_struct", "pid")->size, 4u) << "through const and typedef";
}

TEST(Btf, StepsIntoArraysButNotThroughPointers) {
    const auto btf = Btf::parse(small_kernel_btf());
    ASSERT_TRUE(btf) << btf.error().message;
    EXPECT_EQ(btf->offset_of("pid", "numbers.ns").value(), 16u + 8u);
    EXPECT_FALSE(btf->offset_of("task_struct", "group_leader.pid"));
    EXPECT_FALSE(btf->offset_of("task_struct", "pid.pid"));
    EXPECT_FALSE(btf->offset_of("task_struct", "comm.x"));
}

TEST(Btf, UnknownNamesAreErrorsThatNameThem) {
    const auto btf = Btf::parse(small_kernel_btf());
    ASSERT_TRUE(btf) << btf.error().message;
    EXPECT_THAT(btf->offset_of("task_struct", "nonsense").error().message,
                testing::HasSubstr("task_struct.nonsense"));
    EXPECT_THAT(btf->offset_of("no_struct", "x").error().message, testing::HasSubstr("no_struct"));
    EXPECT_FALSE(btf->offset_of("task_struct", ""));
    EXPECT_FALSE(btf->offset_of("task_struct", "."));
    EXPECT_FALSE(btf->offset_of("task_struct", "thread."));
    EXPECT_FALSE(btf->offset_of("", "pid"));
    EXPECT_FALSE(btf->size_of("no_struct"));
}

TEST(Btf, BitFieldsHaveNoByteOffset) {
    BtfBuilder b;
    const u32 integer = b.integer("int", 4);
    b.composite(BTF_KIND_STRUCT, "flags", 8, {{"a", integer, 0, 1}, {"b", integer, 32}});
    const auto btf = Btf::parse(b.build());
    ASSERT_TRUE(btf) << btf.error().message;
    EXPECT_FALSE(btf->offset_of("flags", "a"));
    EXPECT_EQ(btf->offset_of("flags", "b").value(), 4u);
}

TEST(Btf, TypedefOfAnonymousStructure) {
    BtfBuilder b;
    const u32 integer = b.integer("int", 4);
    const u32 anonymous =
        b.composite(BTF_KIND_STRUCT, "", 8, {{"first", integer, 0}, {"second", integer, 32}});
    b.reference(BTF_KIND_TYPEDEF, "atomic_t", anonymous);
    const auto btf = Btf::parse(b.build());
    ASSERT_TRUE(btf) << btf.error().message;
    EXPECT_EQ(btf->offset_of("atomic_t", "second").value(), 4u);
}

TEST(Btf, CyclesEnd) {
    BtfBuilder b;
    const u32 a = b.next();
    b.reference(BTF_KIND_TYPEDEF, "a", a + 1);
    b.reference(BTF_KIND_CONST, "", a); // typedef -> const -> the same typedef
    // A structure that holds itself twice, namelessly: followed blindly, two to the power of the
    // depth.
    const u32 self = b.next();
    b.composite(BTF_KIND_STRUCT, "self", 8,
                {{"", self, 0}, {"", self, 32}, {"", self, 64}, {"last", a, 0}});
    const u32 big = b.array(self, 0xffffffff);
    b.composite(BTF_KIND_STRUCT, "huge", 8, {{"big", big, 0}, {"many", b.next() + 1, 0}});
    b.array(big, 0xffffffff);
    const auto btf = Btf::parse(b.build());
    ASSERT_TRUE(btf) << btf.error().message;
    EXPECT_FALSE(btf->offset_of("a", "x"));
    EXPECT_FALSE(btf->offset_of("self", "x"));
    EXPECT_FALSE(btf->offset_of("self", "last")) << "of a type without a size";
    EXPECT_FALSE(btf->offset_of("huge", "big")) << "32 GiB";
    EXPECT_FALSE(btf->offset_of("huge", "many"));
    EXPECT_FALSE(btf->size_of("a"));
}

TEST(Btf, RefusesWhatLiesOutside) {
    const Bytes sound = small_kernel_btf();
    ASSERT_TRUE(Btf::parse(sound));
    const auto with = [&](std::size_t at, u32 value) {
        Bytes bytes = sound;
        std::memcpy(bytes.data() + at, &value, sizeof value);
        return bytes;
    };
    EXPECT_FALSE(Btf::parse({}));
    EXPECT_FALSE(Btf::parse(std::span(sound).first(23)));
    EXPECT_FALSE(Btf::parse(std::span(sound).first(sound.size() - 1)))
        << "last string unterminated or cut";
    EXPECT_FALSE(Btf::parse(with(0, 0x0001'9feb))) << "big-endian magic";
    EXPECT_FALSE(Btf::parse(with(offsetof(btf_header, hdr_len), 20)));
    EXPECT_FALSE(Btf::parse(with(offsetof(btf_header, hdr_len), 0xfffffffc)));
    EXPECT_FALSE(Btf::parse(with(offsetof(btf_header, type_off), 2)));
    EXPECT_FALSE(Btf::parse(with(offsetof(btf_header, type_len), 0xfffffffc)));
    EXPECT_FALSE(Btf::parse(with(offsetof(btf_header, type_len), 0)));
    EXPECT_FALSE(Btf::parse(with(offsetof(btf_header, str_len), 0xffffffff)));
    EXPECT_FALSE(Btf::parse(with(offsetof(btf_header, str_len), 0)));
    EXPECT_FALSE(Btf::parse(with(sizeof(btf_header), 0x00ffffff))) << "a name outside the strings";
    EXPECT_FALSE(Btf::parse(with(sizeof(btf_header) + 4, u32{31} << 24))) << "unknown kind";
    EXPECT_FALSE(Btf::parse(with(sizeof(btf_header) + 4, u32{BTF_KIND_STRUCT} << 24 | 0xffff)));
    EXPECT_FALSE(Btf::parse(with(sizeof(btf_header) + 16 + 4, u32{BTF_KIND_PTR} << 24)))
        << "an integer turned pointer to type 8 leaves its 4 extra bytes as a broken record";
}

TEST(Btf, DamagedSectionsDoNoHarm) {
    const Bytes sound = small_kernel_btf();
    Mutator mutate(1);
    unsigned accepted = 0;
    unsigned answered = 0;
    constexpr unsigned rounds = 20'000;
    for (unsigned i = 0; i < rounds; ++i) {
        const Bytes damaged = mutate(sound, 0, sizeof(btf_header) + 200);
        const auto btf = Btf::parse(damaged);
        if (!btf) continue;
        ++accepted;
        for (const char* path :
             {"pid", "comm", "start_boottime", "thread.fsbase", "thread_info.flags"})
            answered += btf->member("task_struct", path).has_value();
        answered += btf->member("pid", "numbers.ns").has_value();
        answered += btf->size_of("pt_regs").has_value();
    }
    // Both sides of the check are exercised.
    EXPECT_GT(accepted, rounds / 50);
    EXPECT_LT(accepted, rounds - rounds / 50);
    EXPECT_GT(answered, accepted);
}

} // namespace
} // namespace gnomon::guest::linux_::test
