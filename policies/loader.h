// YAML to Policy: docs/formats/policy.md says what the language is, policies/schema.json helps an editor with
// it.
//
// The whole file is read and checked, and all its faults are told at once, in the order of their places.
// The input is not trusted: its size, depth and number of nodes are bounded, an alias shares its node and is
// never expanded, and no exception leaves this header.
//
// Threads: reentrant, no shared state. Ownership: the caller's. Control path: allocates.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <tl/expected.hpp>

#include "policies/policy.h"

namespace synfluid::policies {

/// A file with 100,000 prefixes is a tenth of this.
inline constexpr size_t kMaxPolicyBytes = size_t{16} << 20;

/// On failure: at least one Diagnostic with Severity::kError, and the warnings. On success the warnings are
/// in Policy::warnings().
using LoadResult = tl::expected<std::shared_ptr<const Policy>, std::vector<Diagnostic>>;

/// Relative image paths are taken from the file's own folder.
LoadResult load_file(const std::string& path);

/// `filename` is for diagnostics and for relative image paths; no such file needs to exist.
LoadResult load_text(std::string_view text, const std::string& filename);

}  // namespace synfluid::policies
