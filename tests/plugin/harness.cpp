// Calls the plugin library the way TensorRT does: getCreators, createPlugin, shapes, formats, serialize, clone,
// enqueue. Prints every expectation that does not hold and exits with their number.
//
//     harness LIBRARY host    the kernel in the library was compiled for the host emulator: enqueue runs here
//     harness LIBRARY device  enqueue runs on the GPU if there is one, and must fail cleanly if there is none
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>

#include "enqueue.h"

namespace {

nvinfer1::IPluginCreatorV3One* loadCreator(char const* path) {
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        std::printf("%s\n", dlerror());
        std::exit(99);
    }
    using GetCreators = nvinfer1::IPluginCreatorInterface* const* (*)(int32_t&);
    auto getCreators = reinterpret_cast<GetCreators>(dlsym(library, "getCreators"));
    EXPECT(dlsym(library, "setLoggerFinder") != nullptr);
    EXPECT(dlsym(library, "chronos_group_attention") == nullptr);
    int32_t count = 0;
    nvinfer1::IPluginCreatorInterface* const* creators = getCreators(count);
    EXPECT(count == 1);
    EXPECT(std::strcmp(creators[0]->getInterfaceInfo().kind, "PLUGIN CREATOR_V3ONE") == 0);
    EXPECT(creators[0]->getAPILanguage() == nvinfer1::APILanguage::kCPP);
    return static_cast<nvinfer1::IPluginCreatorV3One*>(creators[0]);
}

void checkCreator(nvinfer1::IPluginCreatorV3One& creator) {
    EXPECT(std::strcmp(creator.getPluginName(), "GroupAttention") == 0);
    EXPECT(std::strcmp(creator.getPluginVersion(), "1") == 0);
    EXPECT(std::strcmp(creator.getPluginNamespace(), "chronos") == 0);
    PluginFieldCollection const* names = creator.getFieldNames();
    EXPECT(names->nbFields == 2);
    EXPECT(std::strcmp(names->fields[0].name, "num_heads") == 0);
    EXPECT(std::strcmp(names->fields[1].name, "allow_tf32") == 0);
    EXPECT(names->fields[0].type == PluginFieldType::kINT32);
    EXPECT(names->fields[1].type == PluginFieldType::kINT32);
}

void checkRefusedFields(nvinfer1::IPluginCreatorV3One& creator) {
    int32_t const two = 2, none = 0, negative = -2;
    int32_t const pair[] = {2, 2};
    int64_t const wide = 2;
    EXPECT(creator.createPlugin("layer", nullptr, TensorRTPhase::kBUILD) == nullptr);
    EXPECT(create(creator, std::vector<PluginField>{}) == nullptr);
    EXPECT(create(creator, {PluginField("heads", &two, PluginFieldType::kINT32, 1)}) == nullptr);
    EXPECT(create(creator, {PluginField("num_heads", nullptr, PluginFieldType::kINT32, 1)}) == nullptr);
    EXPECT(create(creator, {PluginField("num_heads", &wide, PluginFieldType::kINT64, 1)}) == nullptr);
    EXPECT(create(creator, {PluginField("num_heads", pair, PluginFieldType::kINT32, 2)}) == nullptr);
    EXPECT(create(creator, none) == nullptr);
    EXPECT(create(creator, negative) == nullptr);
    PluginField const heads("num_heads", &two, PluginFieldType::kINT32, 1);
    EXPECT(create(creator, {heads, PluginField("allow_tf32", nullptr, PluginFieldType::kINT32, 1)}) == nullptr);
    EXPECT(create(creator, {heads, PluginField("allow_tf32", &wide, PluginFieldType::kINT64, 1)}) == nullptr);
    EXPECT(create(creator, {heads, PluginField("allow_tf32", &two, PluginFieldType::kINT32, 1)}) == nullptr);
    std::unique_ptr<nvinfer1::IPluginV3> extra(create(creator, {PluginField(), PluginField("other", &none),
                                                  PluginField("num_heads", &two, PluginFieldType::kINT32, 1)}));
    EXPECT(extra != nullptr);
}

void checkIdentity(Plugin const& plugin) {
    EXPECT(std::strcmp(plugin.owner->getInterfaceInfo().kind, "PLUGIN") == 0);
    EXPECT(std::strcmp(plugin.core->getInterfaceInfo().kind, "PLUGIN_V3ONE_CORE") == 0);
    EXPECT(std::strcmp(plugin.build->getInterfaceInfo().kind, "PLUGIN_V3ONE_BUILD") == 0);
    EXPECT(std::strcmp(plugin.runtime->getInterfaceInfo().kind, "PLUGIN_V3ONE_RUNTIME") == 0);
    EXPECT(std::strcmp(plugin.core->getPluginName(), "GroupAttention") == 0);
    EXPECT(std::strcmp(plugin.core->getPluginVersion(), "1") == 0);
    EXPECT(std::strcmp(plugin.core->getPluginNamespace(), "chronos") == 0);
    EXPECT(plugin.owner->getCapabilityInterface(static_cast<PluginCapabilityType>(9)) == nullptr);
    EXPECT(plugin.build->getNbOutputs() == 1);
    EXPECT(plugin.build->getNbTactics() == 0);
    EXPECT(plugin.runtime->setTactic(0) == 0);
    EXPECT(plugin.build->getWorkspaceSize(nullptr, 6, nullptr, 1) == 0);
}

void checkOutput(Plugin const& plugin) {
    Extent extents[3];
    Builder builder;
    nvinfer1::DimsExprs inputs[6] = {}, output{};
    inputs[0].nbDims = 3;
    for (int i = 0; i < 3; ++i) {
        inputs[0].d[i] = &extents[i];
    }
    EXPECT(plugin.build->getOutputShapes(inputs, 6, nullptr, 0, &output, 1, builder) == 0);
    EXPECT(output.nbDims == 3);
    EXPECT(output.d[0] == &extents[0] && output.d[1] == &extents[1] && output.d[2] == &extents[2]);
    EXPECT(plugin.build->getOutputShapes(inputs, 5, nullptr, 0, &output, 1, builder) != 0);
    inputs[0].nbDims = 4;
    EXPECT(plugin.build->getOutputShapes(inputs, 6, nullptr, 0, &output, 1, builder) != 0);

    for (DataType type : {DataType::kFLOAT, DataType::kHALF, DataType::kBF16}) {
        DataType const types[] = {type, type, type, DataType::kINT32, DataType::kINT32, DataType::kBOOL};
        DataType found = DataType::kINT8;
        EXPECT(plugin.build->getOutputDataTypes(&found, 1, types, 6) == 0);
        EXPECT(found == type);
        EXPECT(plugin.build->getOutputDataTypes(&found, 1, types, 5) != 0);
        EXPECT(plugin.build->getOutputDataTypes(&found, 2, types, 6) != 0);
    }
}

// Every type in every place: exactly the declared combinations are accepted, and LINEAR alone.
void checkFormats(Plugin const& plugin) {
    for (DataType floating : {DataType::kFLOAT, DataType::kHALF, DataType::kBF16}) {
        for (int32_t position = 0; position < 7; ++position) {
            for (int32_t type = 0; type < 12; ++type) {
                Tensors tensors(wellFormed(floating));
                DataType const wanted = tensors.fixed[position].type;
                DataType const asked = static_cast<DataType>(type);
                bool const any = position == 0 && (asked == DataType::kFLOAT || asked == DataType::kHALF ||
                                                   asked == DataType::kBF16);
                tensors.ranged[position].desc.type = asked;
                EXPECT(plugin.build->supportsFormatCombination(position, tensors.ranged.data(), 6, 1) ==
                       (any || asked == wanted));
                tensors.ranged[position].desc.type = wanted;
                tensors.ranged[position].desc.format = TensorFormat::kCHW32;
                EXPECT(!plugin.build->supportsFormatCombination(position, tensors.ranged.data(), 6, 1));
            }
        }
    }
    Tensors tensors(wellFormed());
    EXPECT(!plugin.build->supportsFormatCombination(0, tensors.ranged.data(), 5, 1));
    EXPECT(!plugin.build->supportsFormatCombination(0, tensors.ranged.data(), 6, 2));
    EXPECT(!plugin.build->supportsFormatCombination(7, tensors.ranged.data(), 6, 1));
    EXPECT(!plugin.build->supportsFormatCombination(-1, tensors.ranged.data(), 6, 1));
}

bool accepts(Plugin const& plugin, std::vector<Description> const& descriptions) {
    Tensors tensors(descriptions);
    bool const built = plugin.build->configurePlugin(tensors.ranged.data(), 6, tensors.ranged.data() + 6, 1) == 0;
    bool const run = plugin.runtime->onShapeChange(tensors.fixed.data(), 6, tensors.fixed.data() + 6, 1) == 0;
    EXPECT(built == run);
    return built;
}

void checkShapes(nvinfer1::IPluginCreatorV3One& creator, Plugin const& plugin) {
    EXPECT(accepts(plugin, wellFormed()));
    for (size_t tensor = 0; tensor < 7; ++tensor) {
        for (size_t axis = 0; axis < wellFormed()[tensor].dims.size(); ++axis) {
            std::vector<Description> open = wellFormed(), wrong = wellFormed();
            open[tensor].dims[axis] = -1;
            EXPECT(accepts(plugin, open));
            wrong[tensor].dims[axis] += 1;
            EXPECT(!accepts(plugin, wrong));
        }
        std::vector<Description> rank = wellFormed();
        rank[tensor].dims.push_back(1);
        EXPECT(!accepts(plugin, rank));
    }
    Tensors tensors(wellFormed());
    EXPECT(plugin.build->configurePlugin(tensors.ranged.data(), 5, tensors.ranged.data() + 6, 1) != 0);
    EXPECT(plugin.runtime->onShapeChange(tensors.fixed.data(), 6, tensors.fixed.data() + 6, 2) != 0);
    for (int32_t headDim = 1; headDim <= 144; ++headDim) {
        std::vector<Description> wide = wellFormed();
        for (size_t tensor : {0, 1, 2, 6}) {
            wide[tensor].dims[2] = 3 * headDim;
        }
        EXPECT(accepts(Plugin(create(creator, 3)), wide) == (headDim % 8 == 0 && headDim <= 128));
    }
}

bool isSerializedAs(Plugin const& plugin, int32_t heads, int32_t allowTf32) {
    PluginFieldCollection const* fields = plugin.runtime->getFieldsToSerialize();
    EXPECT(fields->nbFields == 2);
    EXPECT(std::strcmp(fields->fields[0].name, "num_heads") == 0);
    EXPECT(std::strcmp(fields->fields[1].name, "allow_tf32") == 0);
    for (int i = 0; i < 2; ++i) {
        EXPECT(fields->fields[i].type == PluginFieldType::kINT32 && fields->fields[i].length == 1);
    }
    return *static_cast<int32_t const*>(fields->fields[0].data) == heads &&
           *static_cast<int32_t const*>(fields->fields[1].data) == allowTf32;
}

// What is serialized makes an equal plugin again, and a copy stands on its own.
void checkCopies(nvinfer1::IPluginCreatorV3One& creator) {
    EXPECT(isSerializedAs(Plugin(create(creator, 7)), 7, 0));
    auto original = std::make_unique<Plugin>(createForTf32(creator, 7));
    PluginFieldCollection const* fields = original->runtime->getFieldsToSerialize();
    Plugin const revived(creator.createPlugin("layer", fields, TensorRTPhase::kRUNTIME));
    Plugin const clone(original->owner->clone());
    Plugin const attached(original->runtime->attachToContext(nullptr));
    original.reset();
    EXPECT(isSerializedAs(revived, 7, 1));
    EXPECT(isSerializedAs(clone, 7, 1));
    EXPECT(isSerializedAs(attached, 7, 1));
    checkIdentity(clone);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) {
        std::printf("usage: harness LIBRARY host|device\n");
        return 99;
    }
    nvinfer1::IPluginCreatorV3One& creator = *loadCreator(argv[1]);
    checkCreator(creator);
    checkRefusedFields(creator);
    Plugin const plugin(create(creator, kHeads));
    checkIdentity(plugin);
    checkOutput(plugin);
    checkFormats(plugin);
    checkShapes(creator, plugin);
    checkCopies(creator);
    checkRefusedEnqueue(plugin);
    bool const onHost = std::strcmp(argv[2], "host") == 0;
    checkEnqueue<float>(plugin, onHost);
    checkTf32Enqueue(Plugin(createForTf32(creator, kHeads)), onHost);
    checkEnqueue<__half>(plugin, onHost);
    checkEnqueue<__nv_bfloat16>(plugin, onHost);
    std::printf("%d expectations failed\n", failures);
    return failures > 98 ? 98 : failures;
}
