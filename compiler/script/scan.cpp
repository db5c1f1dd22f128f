#include "compiler/script/scan.h"

#include <utility>

namespace jobc::script {

std::vector<Unit> Units(const Template& source) {
  std::vector<Unit> units;
  units.reserve(source.text.size() + source.holes.size());
  size_t next = 0;
  for (size_t i = 0; i <= source.text.size(); ++i) {
    for (; next < source.holes.size() && source.holes[next].offset <= i; ++next) {
      units.push_back({kFirstHole + static_cast<uint32_t>(next), static_cast<uint32_t>(i)});
    }
    if (i < source.text.size()) units.push_back({static_cast<unsigned char>(source.text[i]), static_cast<uint32_t>(i)});
  }
  // A hole beyond the text cannot come from a parser; it stands at the end.
  for (; next < source.holes.size(); ++next) {
    units.push_back({kFirstHole + static_cast<uint32_t>(next), static_cast<uint32_t>(source.text.size())});
  }
  return units;
}

std::string Scan::Written(uint32_t index) const {
  const Hole& h = hole(index);
  return "~{" + h.source + (h.spliced ? "...}" : "}");
}

void Scan::Report(Code code, uint32_t hole, std::string message, std::string label, std::string help) {
  state_.resize(source.holes.size());
  seen[hole] = true;
  uint8_t level = code == Code::W491 ? 1 : 2;
  if (state_[hole] >= level) return;
  Finding finding{code, hole, source.holes[hole].offset, std::move(message), std::move(label), std::move(help)};
  if (state_[hole] == 1) {
    for (Finding& old : findings) {
      if (old.hole == hole) old = std::move(finding);
    }
  } else {
    findings.push_back(std::move(finding));
  }
  state_[hole] = level;
}

bool Scan::HasError(uint32_t hole) const { return hole < state_.size() && state_[hole] == 2; }

}  // namespace jobc::script
