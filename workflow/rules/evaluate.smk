# The loss of a model, quantized or not.
rule evaluate:
    input:
        lambda wildcards: RUN.inputs(f"results/evaluate/{wildcards.label}/{wildcards.key}.json"),
    output:
        "results/evaluate/{label}/{key}.json",
    log:
        "logs/evaluate/{label}/{key}.log",
    threads: 1
    shell:
        "{RUN.command} {output} > {log} 2>&1"
