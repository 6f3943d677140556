# A model's linears rounded to a format by a method.
rule quantize:
    input:
        lambda wildcards: RUN.inputs(f"results/quantize/{wildcards.label}/{wildcards.key}.safetensors"),
    output:
        "results/quantize/{label}/{key}.safetensors",
    log:
        "logs/quantize/{label}/{key}.log",
    threads: 1
    shell:
        "{RUN.command} {output} > {log} 2>&1"
