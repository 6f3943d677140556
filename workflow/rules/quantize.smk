# A model's linears rounded to a format by a method.
rule quantize:
    input:
        missing_parents("results/quantize/{label}/{key}.safetensors"),
    output:
        update("results/quantize/{label}/{key}.safetensors"),
    log:
        "logs/quantize/{label}/{key}.log",
    conda:
        "../envs/bitlaw.yaml"
    threads: 1
    resources:
        mem_mb=mem_mb,
        runtime=runtime,
    params:
        make=RUN.command,
    shell:
        "exec {params.make} {output} > {log} 2>&1"
